"""A `progress.Step` that shows nothing."""

from collections.abc import Generator
from contextlib import contextmanager

from offline_training.progress import Advance


@contextmanager
def step(_: str, __: float) -> Generator[Advance]:
    """Open no progress bar."""
    yield lambda _: None
