"""What a switch of bundles costs the shop in the middle of its events: with a prepared rollout, without one, and rolled back.

    python -m tests.benchmarks.rollout data/hm150 --served bundles/current --next bundles/next

It plays a data set that `tastestream dataset` wrote, on real Kafka with two workers of each kind, once for each of these:

    from the start   the next bundle is served all the time
    prepared         the first events by the served bundle; then NEXT_BUNDLE is set, `rollout prepare`, `rollout promote`, and the
                     names are exchanged: each time the workers restart one by one, under load
    unprepared       the first events by the served bundle; then BUNDLE is the next one, and the workers restart one by one
    rolled back      as prepared, and then back: measured against the served bundle from the start

and compares hit@5 before each of the first 500 purchases after the switch, on the same purchases, with intervals over users.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import ANY

import numpy as np
from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from model.metrics import bootstrap_ratios
from offline_training.replay.evaluation.prequential import Rules
from offline_training.replay.play.event_answer import EventAnswer
from offline_training.replay.play.events import EventSelection, EventStream, PlayedEvent, PreparedDataset
from offline_training.replay.play.messages import Naming
from offline_training.replay.play.pacing import Pace
from offline_training.replay.play.picture_server import served_pictures
from offline_training.replay.play.player import Player
from streams.settings import Settings, read_settings
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System, stop

TARGETS = 500  # purchases after a switch
BEFORE = 0.3  # share of the events before the first step
K = 5
SCENARIOS = ("from the start", "prepared", "unprepared", "rolled back", "served from the start")


@dataclass
class Run:
    """One scenario.

    Attributes:
        answers: the first answer to each event, by its place.
        switched: place of the last event that was sent before the workers had all restarted for the last time.
        lost: number of events without an answer.
        said: what the commands printed.
    """

    answers: dict[int, EventAnswer] = field(default_factory=dict[int, EventAnswer])
    switched: int = -1
    lost: int = 0
    said: list[str] = field(default_factory=list[str])


class Fleet:
    """Two workers of each kind. They restart one by one."""

    def __init__(self, broker: KafkaBroker, folder: Path) -> None:
        self.machines = [System(broker, folder / f"machine-{number}") for number in (1, 2)]
        self._processes: dict[tuple[int, str], subprocess.Popen[bytes]] = {}
        for machine in self.machines:
            machine.folder.mkdir(parents=True)

    def configure(self, bundle: Path, following: Path | None) -> None:
        """Set the bundles of workers and commands that start from now on."""
        for machine in self.machines:
            machine.configure(bundle=bundle, next_bundle=following or "")
            if following is None:
                machine.environment.pop("TASTESTREAM_NEXT_BUNDLE")

    def restart(self) -> None:
        """Restart the workers, or start them, one after the other."""
        for kind in ("profile", "embed"):
            for number, machine in enumerate(self.machines):
                self._stop(number, kind)
                process = machine.launch(kind)
                self._processes[number, kind] = process
                machine.wait_ready(kind, process)

    def stop(self) -> None:
        """Stop all workers."""
        for number, kind in list(self._processes):
            self._stop(number, kind)

    def _stop(self, number: int, kind: str) -> None:
        process = self._processes.pop((number, kind), None)
        if process is not None:
            stop(process)


@contextmanager
def fleet(folder: Path) -> Generator[Fleet]:
    """A broker, and the machines of the workers."""
    with ExitStack() as stack:
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        found = Fleet(broker, folder)
        stack.callback(found.stop)
        yield found


class Shop:
    """The events of a data set, and what their purchases are measured by."""

    def __init__(self, dataset: Path, limit: int | None) -> None:
        self.dataset = PreparedDataset(dataset)
        selection = EventSelection(limit=limit)
        self.stream = EventStream(self.dataset, selection, self.dataset.overview(selection))
        self.naming = Naming(self.dataset.fingerprint())
        self.events = list(self.stream.events())

    def hits(self, run: Run, bundle: Bundle, after: int) -> tuple[list[str], np.ndarray]:
        """Users and hit@K of the first purchases after a place. The answer before an event of a user is that to the last one."""
        numbers = {category: number for number, category in enumerate(bundle.categories)}
        prior = [int(number) for number in np.argsort(-bundle.prior, kind="stable")[:K]]
        last: dict[str, list[int]] = {}
        users: list[str] = []
        hits: list[float] = []
        for event in self.events:
            wanted = {numbers[name] for name in self.stream.items[event.item].categories if name in numbers}
            if event.place > after and event.type in Rules().targets and wanted and len(hits) < TARGETS:
                users.append(event.user)
                hits.append(float(not wanted.isdisjoint(last.get(event.user, prior))))
            answer = run.answers.get(event.place)
            if answer is not None and answer.scores:
                last[event.user] = [number for number, _ in answer.scores[:K]]
        return users, np.array(hits)


async def play(shop: Shop, fleet: Fleet, scenario: str, *, served: Path, following: Path, rate: float) -> Run:
    """Play one scenario from the first event to the last."""
    run, due = Run(), asyncio.Event()
    start = following if scenario == "from the start" else served
    fleet.configure(start, None)
    settings: Settings = read_settings(
        broker=fleet.machines[0].broker.bootstrap, partitions=4, fetch_allow_networks="127.0.0.0/8"
    )
    assert fleet.machines[0].command("topics").returncode == 0
    await asyncio.to_thread(fleet.restart)

    def keep(found: Sequence[EventAnswer]) -> None:
        for answer in found:
            run.answers.setdefault(answer.place, answer)
        if len(run.answers) >= BEFORE * len(shop.events):
            due.set()

    bundle = Bundle.load(start)
    player = Player(
        settings,
        bundle,
        shop.naming,
        keep,
        lead=200,
        pace=Pace(rate=None if scenario.endswith("from the start") else rate),
    )  # pyright: ignore[reportArgumentType]
    player._model = ANY  # the bundles differ by design, and have the same categories
    sent = -1

    def events() -> Generator[PlayedEvent]:
        nonlocal sent
        for event in shop.events:
            sent = event.place
            yield event

    async def steps() -> None:
        if scenario.endswith("from the start"):
            return
        await due.wait()
        if scenario == "unprepared":
            await switch(fleet, following, None)
        else:
            await switch(fleet, served, following)
            await command(run, fleet, "rollout", "prepare")
            await command(run, fleet, "rollout", "status")
            await command(run, fleet, "rollout", "promote", "--without-comparison")
            await switch(fleet, following, served)
        if scenario == "rolled back":
            await switch(fleet, served, following)
        run.switched = sent

    served_at = served_pictures(
        shop.stream.items, shop.dataset.folders, "127.0.0.1", 0, max_bytes=settings.fetch_max_bytes
    )
    async with served_at as url_of, player:
        working = asyncio.create_task(steps())
        try:
            await player.play(events(), shop.stream.items, url_of, asyncio.Event())
            await working
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
    run.lost = len(shop.events) - len(run.answers)
    fleet.stop()
    return run


async def switch(fleet: Fleet, bundle: Path, following: Path | None) -> None:
    """Restart all workers with these bundles, one by one."""
    fleet.configure(bundle, following)
    await asyncio.to_thread(fleet.restart)


async def command(run: Run, fleet: Fleet, *arguments: str) -> None:
    """Run a command on one of the machines, and keep what it says."""
    begun = time.monotonic()
    done = await asyncio.to_thread(fleet.machines[0].command, *arguments, timeout=300)
    run.said.append(
        f"$ tastestream {' '.join(arguments)}   ({time.monotonic() - begun:.1f} s)\n{done.stdout}{done.stderr}"
    )
    if done.returncode:
        raise SystemExit(f"code {done.returncode}\n{run.said[-1]}")


def interval(users: list[str], values: np.ndarray) -> tuple[float, float]:
    """95 % interval of a mean by the bootstrap over users."""
    _, of_user = np.unique(users, return_inverse=True)
    sums, counts = np.bincount(of_user, values), np.bincount(of_user)
    [found] = bootstrap_ratios(sums[:, None].astype(np.float64), counts.astype(np.float64))
    return found.low, found.high


def show(shop: Shop, runs: Mapping[str, Run], served: Bundle, following: Bundle) -> None:
    """Print what was measured."""
    console = Console(width=140)
    for name, run in runs.items():
        for said in run.said:
            console.print(f"[{name}] {said}", markup=False, highlight=False, soft_wrap=True)
    table = Table("run", "lost", "switched at event", f"hit@{K} of {TARGETS} purchases", "reference", "difference")
    for name, run in runs.items():
        if name.endswith("from the start"):
            table.add_row(name, str(run.lost), "", "", "", "")
            continue
        back = name == "rolled back"
        reference = runs.get("served from the start" if back else "from the start")
        bundle = served if back else following
        users, hits = shop.hits(run, bundle, run.switched)
        row = [name, str(run.lost), f"{run.switched:,} of {len(shop.events):,}", _mean(users, hits)]
        if reference:
            _, other = shop.hits(reference, bundle, run.switched)
            low, high = interval(users, hits - other)
            row += [_mean(users, other), f"{(hits - other).mean():+.3f} [{low:+.3f}, {high:+.3f}]"]
        table.add_row(*row)
    console.print(table)


def _mean(users: list[str], hits: np.ndarray) -> str:
    low, high = interval(users, hits)
    return f"{hits.mean():.3f} [{low:.3f}, {high:.3f}] ({len(hits)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a folder that `tastestream dataset` wrote")
    parser.add_argument("--served", type=Path, required=True, help="the bundle that is served at first")
    parser.add_argument("--next", type=Path, required=True, help="the bundle that follows")
    parser.add_argument(
        "--rate", type=float, default=15.0, help="events a second while the bundles are switched (default 15)"
    )
    parser.add_argument("--limit", type=int, help="number of events (default all)")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="scenarios to play (default all)")
    parser.add_argument("--out", type=Path, help="write all answers to this JSON file")
    arguments = parser.parse_args()
    shop = Shop(arguments.dataset, arguments.limit)
    runs: dict[str, Run] = {}
    for name in arguments.only or SCENARIOS:
        with tempfile.TemporaryDirectory() as temporary, fleet(Path(temporary)) as machines:
            served, following = arguments.served.resolve(), arguments.next.resolve()
            runs[name] = asyncio.run(
                play(shop, machines, name, served=served, following=following, rate=arguments.rate)
            )
        sys.stderr.write(f"{name}: {len(runs[name].answers):,} answers, switched at {runs[name].switched}\n")
    show(shop, runs, Bundle.load(arguments.served), Bundle.load(arguments.next))
    if arguments.out:
        found = {name: {"switched": run.switched, "lost": run.lost, "said": run.said} for name, run in runs.items()}
        arguments.out.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
