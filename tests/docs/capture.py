"""Runs the demo and draws what it prints as `docs/demo.svg`, for the README: `python -m tests.docs.capture`."""

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from streams.demo import run

PICTURE = Path(__file__).parents[2] / "docs" / "demo.svg"
WIDTH = 100  # characters of a line
FIRST, LAST = 5, 9  # events that are shown, from the start and from the end of the story

# rich's own format loads its font from the internet; a reader's own monospaced font does as well.
SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="tastestream demo">
<style>
.{unique_id}-matrix {{
  font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def shortened(lines: list[Text]) -> list[Text]:
    """The lines without the events in the middle of the story, and without the prose at the end."""
    events = [number for number, line in enumerate(lines) if line.plain.rstrip().endswith(" ms") and "→" in line.plain]
    first, last = events[FIRST], events[-LAST]
    table_end = max(number for number, line in enumerate(lines) if line.plain.startswith("└"))
    return [*lines[:first], Text("..."), *lines[last : table_end + 1]]


def main() -> int:
    """Run the demo, print what it prints, and write the picture. Gives the demo's exit code."""
    printed = io.StringIO()
    console = Console(file=printed, width=WIDTH, color_system="truecolor")  # no terminal: the table is printed once

    def same_console(*_: object, **__: object) -> Console:
        return console

    run.Console = same_console
    code = run.run_demo(keep=False, pace=0)
    text = printed.getvalue()
    lines = [Text("$ tastestream demo"), *shortened([Text.from_ansi(line) for line in text.splitlines()])]
    recording = Console(file=io.StringIO(), width=WIDTH, record=True, color_system="truecolor", force_terminal=True)
    for line in lines:
        recording.print(line, no_wrap=True, crop=True)
    recording.save_svg(str(PICTURE), title="", theme=MONOKAI, code_format=SVG, unique_id="demo")
    sys.stdout.write(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
