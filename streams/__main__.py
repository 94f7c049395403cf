"""`python -m streams` is the command `tastestream`. This starts it: SIGTERM is handled before anything heavy is imported.

Process 1 of a container gets no SIGTERM that it does not handle, and the imports of a worker take seconds.
"""

import os
import signal
import sys

TERMINATED = 143  # exit code of a command that SIGTERM has ended, as a shell reports it
AGAIN = 0.01  # seconds


def main() -> None:
    """Entry point of `tastestream`."""
    if "worker" in sys.argv[1:]:
        signal.signal(signal.SIGTERM, _stop_worker)
    else:
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, _stop_command)
        sys.unraisablehook = _stop_again
    from streams.cli import main as run  # noqa: PLC0415 -- see above

    run()


def _stop_worker(*_: object) -> None:
    """End a worker that has not begun: it holds nothing. From then on it handles the signal itself."""
    os._exit(0)


def _stop_command(*_: object) -> None:
    """End a command, with what it has to clean up."""
    raise SystemExit(TERMINATED)


def _stop_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """End a command whose signal came amid a `__del__`: Python ignores what is raised there."""
    if isinstance(unraisable.exc_value, SystemExit):
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
    else:
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    main()
