"""The run's folder: which replay it belongs to, and the journal of answers from which that replay resumes.

The journal has one line per answer. It is written before the next event of that user is sent. A line that a crash cut off is
dropped, and its event is played again, with the same id.
"""

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.event_answer import EventAnswer

JOURNAL, RUN = "answers.jsonl", "run.json"


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Create the folder of a run, or check that it belongs to the same run.

    Args:
        folder: the folder.
        identity: what must be the same for a run to resume.

    Raises:
        ReplayError: the folder holds another run, or it cannot be written.
    """
    path = folder / RUN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            found = msgspec.json.decode(path.read_bytes())
            for name, value in identity.items():
                if found.get(name) != value:
                    raise ReplayError(
                        f"{folder} holds another replay: its {name} is {found.get(name)!r}, not {value!r}: choose another --out"
                    )
        else:
            path.write_bytes(msgspec.json.encode(identity) + b"\n")
    except (OSError, msgspec.DecodeError) as error:
        raise ReplayError(f"--out {folder}: {error}: choose another folder") from error


class Journal:
    """The answers in a file, which a lock reserves for one process. A context manager."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            ReplayError: it cannot be written, or another process has it.
        """
        self._path = path
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise ReplayError(f"{path} cannot be written: {error.strerror}: choose another --out") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ReplayError(f"another replay writes to {path}: wait for it, or choose another --out") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def answers(self) -> Iterator[EventAnswer]:
        """Yield the answers so far, and cut off an incomplete last line.

        Raises:
            ReplayError: the file is damaged.
        """
        decode = msgspec.json.Decoder(EventAnswer).decode
        self._file.seek(0)
        whole = 0
        for line, text in enumerate(self._file, 1):
            if not text.endswith(b"\n"):
                self._file.truncate(whole)
                return
            whole += len(text)
            try:
                yield decode(text)
            except msgspec.DecodeError as error:
                raise ReplayError(
                    f"{self._path}, line {line}: {error}: remove the run's folder and play again"
                ) from error

    def write(self, answers: Sequence[EventAnswer]) -> None:
        """Write answers. They survive a kill of this process.

        Raises:
            ReplayError: the disk is full.
        """
        try:
            self._file.writelines(msgspec.json.encode(answer) + b"\n" for answer in answers)
            self._file.flush()
        except OSError as error:
            raise ReplayError(
                f"{self._path} cannot be written: {error.strerror}; make room, and run it again to resume"
            ) from error
