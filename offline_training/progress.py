"""The types with which a long computation reports its progress. How the progress is displayed is up to the caller."""

from collections.abc import Callable
from contextlib import AbstractContextManager

Advance = Callable[[int], None]
"""Called with the number of units finished since the last call: pictures, steps or bytes."""

Step = Callable[[str, float], AbstractContextManager[Advance]]
"""Opens a progress bar, given its title and its total in units. The context manager gives the bar's `Advance`."""
