"""Events/s and processor time per event: tastestream compared with other implementations of the same job.

    python -m tests.benchmarks.throughput --events 20000 --rounds 5 --bag 16 --out runs/throughput

Each round starts the peers one after the other on the same broker, each with its own topics, state and folder. First the peer
processes events that fill the bags of its users, which also warms it up. Then events are produced as fast as the broker accepts
them, and the time from the first event to the last recommendation is measured, by the clock of the broker. Broker, load and peer
share this machine, so processor time per event says more than the rate. Every second round goes through the peers in reverse order.
"""

import argparse
import asyncio
import logging
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from tests.benchmarks.throughput.peers import PEERS, Peer
from tests.benchmarks.throughput.report import show, write
from tests.benchmarks.throughput.stand import Outcome, Stand
from tests.benchmarks.throughput.workload import Shop
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import picture_server

WARMING = 2000  # events of the warm-up round: the broker is slow at first


async def run(
    peers: list[Peer], shop: dict[str, float], count: int, rounds: int, console: Console
) -> dict[str, list[Outcome]]:
    measured: dict[str, list[Outcome]] = {peer.name: [] for peer in peers}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        base = stack.enter_context(picture_server(CATALOGUE))
        stand = Stand(broker, folder, Shop(base, **shop), Bundle.load())  # pyright: ignore[reportArgumentType]
        await stand.round(peers[0], WARMING)
        for number in range(rounds):
            for peer in peers if number % 2 == 0 else reversed(peers):
                outcome = await stand.round(peer, count)
                measured[peer.name].append(outcome)
                console.print(
                    f"round {number + 1} of {rounds}: {peer.name} {outcome.rate:,.0f} events/s, {outcome.used:.2f} ms"
                )
    return measured


def peers_of(names: str, parser: argparse.ArgumentParser) -> list[Peer]:
    """The peers with these names, in this order. Exits with an error if a name is unknown or a peer is not installed."""
    found: list[Peer] = []
    for name in names.split(","):
        if name not in PEERS:
            parser.error(f"--peers {name}: expected one of {', '.join(PEERS)}")
        if name == "quix" and find_spec("quixstreams") is None:
            parser.error("--peers quix: quixstreams is not installed (pip install '.[bench]')")
        found.append(PEERS[name])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000, help="events per round (default 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the peers alternate (default 5)")
    installed = [name for name in PEERS if name != "quix" or find_spec("quixstreams")]
    parser.add_argument("--peers", default=",".join(installed), help=f"peers, in order (default {','.join(installed)})")
    parser.add_argument(
        "--bag", type=int, default=16, help="items in the bag of each user; as many are scored (default 16)"
    )
    parser.add_argument("--users", type=int, default=500, help="number of users (default 500)")
    parser.add_argument("--cached", type=float, default=1.0, help="share of events with a cached picture (default 1.0)")
    parser.add_argument("--out", type=Path, help="folder for the figures, as JSON and as a plot")
    arguments = parser.parse_args()
    peers = peers_of(arguments.peers, parser)
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns that new topics have no leader yet, and retries
    shop = {"users": arguments.users, "bag": arguments.bag, "cached": arguments.cached}
    measured = asyncio.run(run(peers, shop, arguments.events, arguments.rounds, Console(stderr=True)))
    title = (
        f"bags of {arguments.bag}, {arguments.cached:.0%} of the pictures cached, {arguments.events:,} events per round"
    )
    show(measured, title, Console(width=160))
    if arguments.out:
        write(measured, title, {"events": arguments.events, **shop}, arguments.out)


if __name__ == "__main__":
    main()
