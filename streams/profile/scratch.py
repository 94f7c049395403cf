"""A RocksDB that a command fills while it runs, and that is removed at its end. Memory does not grow with what it holds."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import rocksdict

from streams.exceptions import StateError
from streams.profile.databases import RocksDBMemory
from streams.runtime.process import locked_folder

MEMORY = 64 * 1024**2  # bytes of RocksDB's cache and write buffers


@contextmanager
def scratch_database(parent: Path, name: str, if_used: str) -> Generator[tuple[rocksdict.Rdict, Path]]:
    """An empty database, and its folder. It is removed at the end, or by the next run after a kill.

    Args:
        parent: folder; this process locks `name` in it.
        name: of the command's own folder.
        if_used: the advice to somebody whose command finds another one there.

    Raises:
        DataFolderError: another process has the folder, or it cannot be written.
        StateError: the disk does not permit it.
    """
    with locked_folder(parent, name, if_used=if_used) as locked:
        folder = locked / "ledger"
        with reported(folder):
            shutil.rmtree(folder, ignore_errors=True)
            database = RocksDBMemory(MEMORY).open(folder)
        try:
            yield database, folder
        finally:
            database.close()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def reported(folder: Path) -> Generator[None]:
    """Turn the bare Exception that rocksdict raises for RocksDB's failures into StateError."""
    try:
        yield
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, OSError):
            raise
        raise StateError(f"{folder} cannot be read or written: {error}; free some space, or change DATA_DIR") from error
