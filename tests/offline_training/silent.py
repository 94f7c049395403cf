"""Progress that nobody is shown."""

from collections.abc import Generator
from contextlib import contextmanager

from offline_training.progress import Advance


@contextmanager
def step(_: str, __: float) -> Generator[Advance]:
    """A `progress.Step`."""
    yield lambda _: None
