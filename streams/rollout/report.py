"""What the commands print. Pure: lines and tables from what was counted."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from streams.kafka.fleet import BundleName
from streams.rollout.gates import Gate
from streams.rollout.held import Share, percent, total
from streams.text import visible


def say(console: Console, line: str) -> None:
    """Print one line, however long."""
    console.print(visible(line), highlight=False, markup=False, soft_wrap=True)


def items(count: int) -> str:
    """A number of items."""
    return f"{count:,} item{'' if count == 1 else 's'}"


def counts(reasons: Mapping[str, int]) -> str:
    """The number of each reason, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{visible(reason)} {count:,}" for reason, count in ordered)


def prepare_lines(
    *,
    following: BundleName,
    before: Share,
    sent: Mapping[str, int],
    left: Mapping[str, int],
    seconds: float,
    done: bool,
) -> list[str]:
    """The summary of `prepare`.

    Args:
        following: the next bundle.
        before: the items as they were.
        sent: items that got a code, by how it was made.
        left: items without a code, by reason.
        seconds: that it took.
        done: whether it came to its end.
    """
    made, missing = sum(sent.values()), sum(left.values())
    how = f": {counts(sent)}" if made else ""
    speed = f" ({made / seconds:,.0f}/s)" if made and seconds else ""
    stopped = "" if done else "stopped: "
    lines = [f"{stopped}sent codes of {following} for {items(made)}{how}, in {seconds:.1f} s{speed}"]
    if before.ready:
        lines.append(f"  {items(before.ready)} had one already ({_states(before)})")
    if missing:
        lines.append(f"  {items(missing)} without a code: {counts(left)}")
    return lines


def dry_run_lines(
    *, following: BundleName, before: Share, known: int, to_fetch: int, pictures: int, adaptable: int
) -> list[str]:
    """What `prepare --dry-run` prints.

    Args:
        following: the next bundle.
        before: the items as they are.
        known: items whose pictures have features on the topic.
        to_fetch: items whose pictures have none.
        pictures: distinct pictures of these.
        adaptable: those of these whose code can be adapted if the picture is gone.
    """
    return [
        f"{items(before.ready)} of {before.rows:,} have a code of {following} ({_states(before)})",
        f"  {items(known)} would get one from the features on the topic",
        f"  {items(to_fetch)} would get one when {pictures:,} picture{' is' if pictures == 1 else 's are'} fetched",
        f"  {adaptable:,} of these have a code to adapt if the picture is gone",
        "nothing was sent",
    ]


def _states(share: Share) -> str:
    return f"{share.states['native']:,} native, {share.states['adapted']:,} adapted"


def share_table(shares: Mapping[int, Share]) -> Table:
    """The state of the items by partition."""
    names = ("items", "native", "adapted", "without", "share")
    columns = [Column(name, justify="right", no_wrap=True) for name in ("partition", *names)]
    table = Table(*columns)
    for partition, share in sorted(shares.items()):
        table.add_row(str(partition), *_cells(share))
    table.add_section()
    table.add_row("all", *_cells(total(shares.values())), style="bold")
    return table


def _cells(share: Share) -> list[str]:
    states = share.states
    without = share.rows - share.ready
    figures = (share.rows, states["native"], states["adapted"], without)
    return [*(f"{figure:,}" for figure in figures), percent(share.share)]


def reason_lines(*, known: int, to_fetch: int, pictures: int, stale: int) -> list[str]:
    """Why items have no code.

    Args:
        known: items whose pictures have features on the topic.
        to_fetch: items whose pictures have none.
        pictures: distinct pictures of these.
        stale: items of all of these that have a code of an older picture.
    """
    lines = [f"{items(known + to_fetch)} without a code:"]
    if known:
        lines.append(f"  {known:,} have features on the topic: `rollout prepare` makes the codes")
    if to_fetch:
        lines.append(
            f"  {to_fetch:,} need {pictures:,} picture{'' if pictures == 1 else 's'}: `rollout prepare` fetches or adapts"
        )
    if stale:
        lines.append(f"  {stale:,} of these have the code of an older picture")
    return lines


def gate_table(gates: Sequence[Gate]) -> Table:
    """The gates of a promotion."""
    table = Table(Column("gate", no_wrap=True), Column("", no_wrap=True), Column("what was found", overflow="fold"))
    for gate in gates:
        state = Text("open", "green") if gate.open else Text("closed", "red")
        table.add_row(gate.name, state, gate.found)
    return table
