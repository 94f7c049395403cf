"""`tastestream rollout status`: which items of the bags have a code of `NEXT_BUNDLE`, and why the others have none."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from model.bundle import Bundle
from streams.kafka.fleet import BundleName, Member, fleet
from streams.kafka.generations import in_use
from streams.rollout.bundles import both
from streams.rollout.coder import Coder
from streams.rollout.gates import fleet_gate
from streams.rollout.held import Share, total
from streams.rollout.ledger import Ledger, batched, open_ledger
from streams.rollout.progress import Work, shown_work
from streams.rollout.reading import read_bags, read_features, surveyed
from streams.rollout.report import reason_lines, say, share_table
from streams.runtime.process import configure_logging
from streams.settings import Settings


@dataclass
class Status:
    """The state of the items, and how those without a code can get one."""

    shares: dict[int, Share] = field(default_factory=dict[int, Share])  # by partition
    known: int = 0  # items whose pictures have features on the topic
    to_fetch: int = 0  # items whose pictures have none
    pictures: int = 0  # distinct pictures of these

    @property
    def all(self) -> Share:
        """The sum over the partitions."""
        return total(self.shares.values())


def run_status(settings: Settings, console: Console) -> int:
    """Print the status. Returns the exit code. Raises TastestreamError."""
    configure_logging(settings)
    with open_ledger(settings, "status") as ledger:
        return asyncio.run(_status(settings, ledger, console))


async def _status(settings: Settings, ledger: Ledger, console: Console) -> int:
    served, following = both(settings)
    settings = await in_use(settings)
    names = BundleName.of(served), BundleName.of(following)
    with shown_work() as work:
        found = await read_status(settings, ledger, work, served, following)
        members = await fleet(settings)
    say(console, f"BUNDLE       {names[0]}")
    say(console, f"NEXT_BUNDLE  {names[1]}")
    console.print(share_table(found.shares))
    for line in _lines(found, members, *names, least=settings.rollout_share):
        say(console, line)
    return 0


async def read_status(settings: Settings, ledger: Ledger, work: Work, served: Bundle, following: Bundle) -> Status:
    """Read the state of the items and, if some have no code, which of their pictures have features on the topic.

    Raises:
        TastestreamError: the broker or a topic does not permit it.
    """
    partitions = await read_bags(
        settings, ledger, work, served=served.embedder_version, following=following.embedder_version
    )
    survey = surveyed(ledger, partitions, limit=None)
    status = Status(survey.shares)
    lacking = status.all.rows - status.all.ready
    if not lacking:
        return status
    if settings.share_features:
        coder = Coder(following)
        await read_features(
            settings,
            ledger,
            work,
            version=coder.features_version,
            fits=coder.fits,
            codes=None,
        )
    for rows in batched(row for row in ledger.rows() if row.held.lacks and ledger.code(row.held.image_url) is None):
        ledger.fetch_later(rows)
        status.to_fetch += len(rows)
    status.known = lacking - status.to_fetch
    status.pictures = ledger.pictures_to_fetch()
    return status


def _lines(
    status: Status, members: Sequence[Member], served: BundleName, following: BundleName, *, least: float
) -> Iterator[str]:
    """What the table does not say, and the next step."""
    share, gate = status.all, fleet_gate(members, served, following)
    if share.ready < share.rows:
        yield from reason_lines(
            known=status.known, to_fetch=status.to_fetch, pictures=status.pictures, stale=share.states["stale"]
        )
    yield f"workers: {gate.found}"
    if gate.open:
        step = "promote" if share.share >= least else "prepare"
        yield f"next step: tastestream rollout {step}"
