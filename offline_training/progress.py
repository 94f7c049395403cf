"""How a long computation tells of its progress, whoever shows it."""

from collections.abc import Callable
from contextlib import AbstractContextManager

Advance = Callable[[int], None]
"""Told how much more is done: pictures, steps or bytes."""

Step = Callable[[str, float], AbstractContextManager[Advance]]
"""Opens a progress bar: a title and the total, to a function that advances it."""
