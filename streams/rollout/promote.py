"""`tastestream rollout promote` and `abort`: they change nothing, and say what to set and in which order to restart."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from model.bundle import Bundle
from streams.exceptions import StartupError
from streams.kafka.fleet import BundleName, fleet
from streams.kafka.generations import in_use
from streams.rollout.bundles import both
from streams.rollout.gates import COMPARISON, Gate, categories_gate, comparison_gate, fleet_gate, share_gate
from streams.rollout.held import total
from streams.rollout.ledger import Ledger, open_ledger
from streams.rollout.progress import shown_work
from streams.rollout.reading import read_bags, surveyed
from streams.rollout.report import gate_table, say
from streams.runtime.process import configure_logging
from streams.settings import PREFIX, Settings

REFUSED = 3  # exit code if a gate is closed
RESTART = (
    "2. Restart the profile workers, one at a time. Wait until /ready of each answers",
    "   200 before the next one.",
    "3. Restart the embed workers in the same way.",
)
MAX_COMPARISON = 1024 * 1024  # bytes of `comparison.json` that are read


def run_promote(settings: Settings, console: Console, *, other_categories: bool, without_comparison: bool) -> int:
    """Check the gates, and say how to promote. Returns the exit code. Raises TastestreamError."""
    configure_logging(settings)
    with open_ledger(settings, "promote") as ledger:
        served, following, gates = asyncio.run(
            _gates(settings, ledger, other_categories=other_categories, without_comparison=without_comparison)
        )
    console.print(gate_table(gates))
    closed = [gate.name for gate in gates if not gate.open]
    if closed:
        say(console, f"{BundleName.of(following)} is not promoted: {', '.join(closed)}. Nothing was changed.")
        return REFUSED
    for line in promote_steps(served, following):
        say(console, line)
    return 0


async def _gates(
    settings: Settings, ledger: Ledger, *, other_categories: bool, without_comparison: bool
) -> tuple[Bundle, Bundle, list[Gate]]:
    served, following = both(settings)
    settings = await in_use(settings)
    names = BundleName.of(served), BundleName.of(following)
    with shown_work() as work:
        partitions = await read_bags(
            settings, ledger, work, served=served.embedder_version, following=following.embedder_version
        )
        share = total(surveyed(ledger, partitions, limit=None).shares.values())
    return (
        served,
        following,
        [
            share_gate(share, settings.rollout_share),
            categories_gate(served.categories, following.categories, other_categories=other_categories),
            comparison_gate(_content(following.path / COMPARISON), *names, without_comparison=without_comparison),
            fleet_gate(await fleet(settings), *names),
        ],
    )


def _content(path: Path) -> bytes | None:
    """The content of a file; None if there is none. Raises StartupError."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_COMPARISON)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartupError(f"{path} cannot be read: {error.strerror}") from error


def promote_steps(served: Bundle, following: Bundle) -> Iterator[str]:
    """The steps of a promotion, and how to go back. Pure."""
    yield f"{BundleName.of(following)} can be promoted."
    yield "Nothing was changed. The steps:"
    yield ""
    yield "1. Exchange the bundles in the settings of all workers:"
    yield f"     {_set('bundle', following)}"
    yield f"     {_set('next_bundle', served)}"
    yield from RESTART
    yield "4. Exchange them for this command as well: tastestream rollout status"
    yield ""
    yield "To roll back, exchange them again and restart in the same order. That works for"
    yield f"as long as {PREFIX}NEXT_BUNDLE names the bundle before."


def abort_steps(settings: Settings) -> Iterator[str]:
    """The steps that end a rollout without a promotion. Pure."""
    if settings.next_bundle is None:
        yield f"{PREFIX}NEXT_BUNDLE is not set here. If workers have it, these are the steps:"
    else:
        yield f"To give up {settings.next_bundle}. Nothing was changed. The steps:"
    yield ""
    yield "1. Stop `tastestream rollout prepare` if it runs."
    yield f"   Unset {PREFIX}NEXT_BUNDLE for all workers."
    yield from RESTART
    yield ""
    yield "Recommendations do not change: BUNDLE is served all the time."
    yield f"What stays: the features on {settings.features_topic}, for each bundle with the"
    yield "same backbone; a code of the next bundle until the next event of its item."
    yield f"You may delete the topic {settings.next_recommendations_topic}."


def _set(name: str, bundle: Bundle) -> str:
    return f"{PREFIX}{name.upper()}={bundle.path.absolute()}"
