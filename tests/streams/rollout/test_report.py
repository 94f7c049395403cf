"""What the commands print."""

from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from model.bundle import Bundle
from streams.console import PlainConsole
from streams.kafka.fleet import BundleName
from streams.rollout.gates import Gate
from streams.rollout.held import Share
from streams.rollout.promote import abort_steps, promote_steps
from streams.rollout.report import counts, dry_run_lines, gate_table, prepare_lines, reason_lines, share_table
from streams.settings import Settings

NEW = BundleName("shop", "4.0.0", "b" * 12)
BEFORE = Share(Counter({"native": 8_000_000, "adapted": 1_000, "missing": 1_999_000}))


def printed(table: object) -> list[str]:
    out = StringIO()
    console: Console = PlainConsole(file=out, width=80)
    console.print(table)
    return out.getvalue().splitlines()


def test_the_table_of_partitions_fits_80_columns_and_sums_up() -> None:
    lines = printed(share_table({0: BEFORE, 11: Share(Counter({"native": 12, "stale": 4}))}))
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    last = lines[-2].replace("│", " ").split()
    assert last == ["all", "10,000,016", "8,000,012", "1,000", "1,999,004", "80.0", "%"]


def test_the_table_of_gates_fits_80_columns_and_shows_all_of_a_long_line() -> None:
    lines = printed(gate_table([Gate("comparison", False, "word " * 60), Gate("fleet", True, "x" * 200)]))
    assert max(map(len, lines)) <= 80
    assert sum(line.count("word") for line in lines) == 60
    assert sum(line.count("x") for line in lines) == 200


def test_the_summary_says_how_the_codes_were_made_and_why_others_are_missing() -> None:
    lines = prepare_lines(
        following=NEW, before=BEFORE, sent={"fetched": 2, "from features": 10}, left={"gone": 1}, seconds=2.0, done=True
    )
    assert lines == [
        f"sent codes of {NEW} for 12 items: from features 10, fetched 2, in 2.0 s (6/s)",
        "  8,001,000 items had one already (8,000,000 native, 1,000 adapted)",
        "  1 item without a code: gone 1",
    ]


def test_a_run_that_was_stopped_or_had_nothing_to_do_says_so() -> None:
    lines = prepare_lines(following=NEW, before=Share(), sent={}, left={}, seconds=0.0, done=False)
    assert lines == [f"stopped: sent codes of {NEW} for 0 items, in 0.0 s"]


def test_a_dry_run_says_what_would_be_done() -> None:
    lines = dry_run_lines(following=NEW, before=BEFORE, known=5, to_fetch=3, pictures=1, adaptable=2)
    assert "5 items would get one from the features" in lines[1]
    assert lines[2:] == [
        "  3 items would get one when 1 picture is fetched",
        "  2 of these have a code to adapt if the picture is gone",
        "nothing was sent",
    ]


def test_reasons_are_named_only_if_there_are_such_items() -> None:
    assert len(reason_lines(known=0, to_fetch=3, pictures=2, stale=0)) == 2
    assert len(reason_lines(known=1, to_fetch=3, pictures=2, stale=4)) == 4


def test_text_of_strangers_is_escaped() -> None:
    assert counts({"a\nb": 1}) == "a\\nb 1"


@pytest.mark.parametrize("following", [None, Path("/srv/bundles/next")])
def test_the_steps_fit_80_columns_and_name_the_profile_workers_first(following: Path | None) -> None:
    settings = Settings(next_bundle=following)  # pyright: ignore[reportCallIssue]
    bundle = Bundle.load()
    for lines in (list(abort_steps(settings)), list(promote_steps(bundle, bundle))):
        assert max(len(line) for line in lines if "TASTESTREAM_" not in line) <= 80
        text = "\n".join(lines)
        assert text.index("profile workers") < text.index("embed workers")
