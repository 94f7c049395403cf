"""What one picture may cost in a decoder process."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Self


@dataclass(frozen=True)
class DecoderLimits:
    """Limits of one decoder process.

    Attributes:
        seconds: Processor time of one picture.
        memory: Bytes of address space of the process.
    """

    seconds: float
    memory: int

    def arguments(self) -> list[str]:
        """As arguments of the process."""
        return [str(value) for value in astuple(self)]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Self:
        """From `arguments()`."""
        seconds, memory = arguments
        return cls(float(seconds), int(memory))
