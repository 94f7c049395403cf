"""What the subcommands of `tastestream user` do."""

import secrets
import sys
import time
from datetime import UTC, datetime

from model.exceptions import TastestreamError
from streams.console import PlainConsole, say
from streams.kafka.configs import topic_configs
from streams.kafka.generations import Layout, read_layout
from streams.kafka.topics import connected, topic_specs
from streams.send.answers import Erased
from streams.send.events import checked_event, event_value
from streams.send.sending import EventSender
from streams.serve.api.types.privacy import ExportAnswer
from streams.serve.api.types.users import ExplanationAnswer, UserAnswer
from streams.settings import Settings
from streams.text import visible, visible_json
from streams.users.api import ask
from streams.users.remains import Remainder, remainders
from streams.users.report import age, bag, categories, explanation, remaining

# Where else data of an erased user is. docs/operate/delete-a-user.md has the whole table.
ELSEWHERE = (
    "serve workers: their copy of the bag, for some seconds",
    "a data folder whose worker has given the user's partition away: old rows, until the partition returns or the folder is deleted",
    "backups and exports that you made: until you delete them",
)


class NotErased(TastestreamError):
    """The erasure was sent, and no worker has answered it yet."""


async def show(settings: Settings, user_id: str, console: PlainConsole, *, as_json: bool) -> None:
    """Print the bag of a user, and what it says. Raises ApiError."""
    answer, content = await ask(settings, user_id, "", UserAnswer)
    if as_json:
        _print_json(content)
        return
    say(
        console,
        f"{visible(user_id)}: {len(answer.items)} items; model {visible(answer.model.name)} {answer.model.version}",
    )
    console.print()
    console.print(categories(answer))
    console.print()
    console.print(bag(answer.items))
    if late := age(answer.state):
        say(console, f"\n{late}")


async def why(
    settings: Settings,
    user_id: str,
    console: PlainConsole,
    *,
    category: str | None,
    item: str | None,
    as_json: bool,
) -> None:
    """Print why a category or an item has its score; without either, why the best category has. Raises ApiError."""
    if category is None and item is None:
        known, _ = await ask(settings, user_id, "", UserAnswer, {"k": "1"})
        category = known.categories[0].category
    query = {"category": category} if category is not None else {"item": item or ""}
    answer, content = await ask(settings, user_id, "/explanation", ExplanationAnswer, query)
    if as_json:
        _print_json(content)
        return
    heading, table, last = explanation(answer)
    say(console, visible(heading))
    console.print(table)
    say(console, visible(last))
    if late := age(answer.state):
        say(console, late)


async def export(settings: Settings, user_id: str) -> None:
    """Print everything that is held on a user as JSON. Raises ApiError."""
    _, content = await ask(settings, user_id, "/export", ExportAnswer)
    _print_json(content)


async def erase(settings: Settings, user_id: str, console: PlainConsole, *, timeout: float) -> None:
    """Erase a user, wait until a worker has done it, and print where data of the user still is, and until when.

    Raises:
        MessageError: No user can have this id.
        NotErased: No worker answered within `timeout` seconds.
        TastestreamError: The broker or the topics do not permit it.
    """
    now = time.time()
    value = event_value(
        user_id=user_id, type="erase", timestamp=int(now * 1000), event_id=f"erase-{secrets.token_hex(16)}"
    )
    event = checked_event(value, now=now, max_future=settings.max_future, earliest=settings.earliest)
    async with EventSender(settings, wait=True) as sender:
        [sent] = await sender.send([event])
        async for _, answer, seconds in sender.answers(timeout):
            if not isinstance(answer, Erased):
                raise NotErased(
                    f"{visible(user_id)} is not erased after {seconds:.0f} s. The erase event is on the topic ({sent.place}), and "
                    "holds as soon as a worker of each kind runs"
                )
            moment = datetime.fromtimestamp(now, UTC)
            say(
                console,
                f"{visible(user_id)} is erased: everything up to {moment:%Y-%m-%d %H:%M:%SZ}, after {seconds:.1f} s",
            )
    say(console, "What still has data of the user:")
    layout = await read_layout(settings)
    for one in await _remaining(settings.of_generation(layout.serving), datetime.now(UTC)):
        say(console, f"  {remaining(one)}")
    for line in [*_kept(settings, layout), *ELSEWHERE]:
        say(console, f"  {line}")


def _kept(settings: Settings, layout: Layout) -> list[str]:
    """The topics of a generation that is kept for a rollback: nothing is erased from them."""
    if not layout.kept:
        return []
    kept = settings.of_generation(layout.kept)
    return [
        f"{kept.embedded_topic}, {kept.bags_changelog}: the bag before the resize, until `topics resize --delete-old`"
    ]


async def _remaining(settings: Settings, now: datetime) -> list[Remainder]:
    specs = topic_specs(settings)
    personal = {
        settings.interactions_topic: "events",
        settings.embedded_topic: "events with embeddings",
        settings.bags_changelog: "replaced rows of the bag; the id and the time of the erasure stay",
        settings.recommendations_topic: "replaced recommendations",
        settings.next_recommendations_topic: "replaced recommendations",
        settings.dlq_topic: "dead letters, if there are any",
    }
    async with connected(settings) as admin:
        existing = set(await admin.list_topics())
        configs = await topic_configs(admin, [spec.name for spec in specs if spec.name in existing])
    return remainders(specs, configs, personal, now)


def _print_json(content: bytes) -> None:
    sys.stdout.write(visible_json(content.decode()) + "\n")
