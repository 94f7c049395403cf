"""Access to pyarrow, which the extra `parquet` installs."""

from importlib import import_module
from typing import Any

from offline_training.datasets.records import DatasetError


def parquet_module() -> Any:
    """Import `pyarrow.parquet`.

    Raises:
        DatasetError: pyarrow is not installed.
    """
    try:
        return import_module("pyarrow.parquet")
    except ImportError:
        raise DatasetError("Parquet needs pyarrow: pip install 'tastestream[parquet]'") from None
