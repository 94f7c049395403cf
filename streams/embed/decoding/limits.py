"""What one picture may cost in a decoder process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class DecoderLimits:
    """Limits of one decoder process.

    Attributes:
        seconds: Processor time of one picture.
        memory: Bytes of address space of the process.
        heic: Whether it decodes HEIC, if the extra is installed. Then it may start threads, which that decoder needs.
    """

    seconds: float
    memory: int
    heic: bool = False

    def arguments(self) -> list[str]:
        """As arguments of the process."""
        return [str(float(self.seconds)), str(self.memory), str(int(self.heic))]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Self:
        """From `arguments()`."""
        seconds, memory, heic = arguments
        return cls(float(seconds), int(memory), bool(int(heic)))
