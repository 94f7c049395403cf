"""`tastestream replay`: plays what is not played yet, evaluates the answers, and writes the reports."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console

from model.bundle import Bundle
from offline_training.replay.answers.embeddings import Embeddings, PictureEmbeddings
from offline_training.replay.answers.expected import Offline
from offline_training.replay.answers.journal import JOURNAL, Journal, claim
from offline_training.replay.answers.table import Answers
from offline_training.replay.answers.trends import read_topic_trends
from offline_training.replay.evaluation.beside import bundles_beside
from offline_training.replay.evaluation.evaluate import evaluate, results_of
from offline_training.replay.evaluation.prequential import Rules
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.event_answer import EventAnswer
from offline_training.replay.play.events import EventSelection, EventStream, PreparedDataset
from offline_training.replay.play.messages import Naming
from offline_training.replay.play.pacing import Pace
from offline_training.replay.play.playing import play
from offline_training.replay.progress import spinner, step
from offline_training.replay.report.written import show_results, write_results
from streams.console import say
from streams.runtime.process import configure_logging
from streams.settings import Settings

STOPPED = 130  # exit code after Ctrl-C, as a shell reports it
DIFFERS = 1  # exit code when the check found a difference


@dataclass(frozen=True)
class ReplayOptions:
    """The options of the command.

    Attributes:
        dataset: folder of the data set.
        out: folder of the run.
        selection: which events are played.
        rules: what is measured.
        pace: when an event may be sent.
        lead: maximum number of unanswered events.
        host, port: where local pictures are served.
        tag: prefix of every user id.
        check: whether the answers are compared with the expected ones.
        delay: the delay of the rules, as it was written.
        beside: folders of bundles that are measured at the same targets.
        live_topics: whether to play to an input topic that has events of others.
        measured: file of the users whose targets are measured; None: all.
        items: whether recommended items are measured, too.
    """

    dataset: Path
    out: Path
    selection: EventSelection
    rules: Rules
    pace: Pace
    lead: int
    host: str
    port: int
    tag: str
    check: bool
    delay: str = ""
    beside: tuple[Path, ...] = ()
    live_topics: bool = False
    measured: Path | None = None
    items: bool = False


def run_replay(
    settings: Settings, options: ReplayOptions, console: Console, embeddings: Embeddings | None = None
) -> int:
    """Play, evaluate and report.

    Args:
        settings: the settings of the workers.
        options: of the command.
        console: shows the results.
        embeddings: of the pictures, for what is computed without the workers. None: they are made from the pictures.

    Returns:
        The exit code: 0; 1 when the check found a difference; 130 when the replay was stopped.

    Raises:
        TastestreamError: the replay cannot start or continue.
    """
    configure_logging(settings)
    with spinner(f"reading {options.dataset}"):
        served = Bundle.load(settings.bundle, settings.bundle_key)
        top = _categories_of_a_recommendation(settings, served, options.rules)
        stream, naming = _opened(options)
        at = None if options.measured is None else _users_of(options.measured, stream)
        beside = bundles_beside(served, options.beside)
        claim(options.out, _identity(settings, options, served, naming))

    # Play the events that have no answer yet, and keep the answers.
    begun = monotonic()
    with Journal(options.out / JOURNAL) as journal:
        answers = Answers.of(journal.answers(), len(stream), top)
        before = answers.count

        def keep(found: Sequence[EventAnswer]) -> None:
            journal.write(found)
            for answer in found:
                answers.add(answer)

        if before < len(stream):
            remaining = (event for event in stream.events() if not answers.given[event.place])
            playing = play(
                settings, stream, remaining, keep, answered=before, bundle=served, naming=naming,
                pace=options.pace, lead=options.lead, host=options.host, port=options.port, live_topics=options.live_topics,
            )  # fmt: skip
            if not asyncio.run(playing):
                say(
                    console,
                    f"stopped after {answers.count:,} of {len(stream):,} events; run the same command again to resume",
                )
                return STOPPED
    seconds = monotonic() - begun
    if len(answers.reasons) == len(stream):
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in Counter(answers.reasons.values()).most_common())
        raise ReplayError(
            f"none of the {len(stream):,} events has a recommendation: {reasons}: see `tastestream dlq list`"
        )

    # Evaluate the answers at the targets.
    trends = asyncio.run(read_topic_trends(settings, served)) if options.check and served.labels_version else None
    embeddings = embeddings or PictureEmbeddings(settings, stream.dataset.folders, step)
    offline = Offline(settings, stream, naming, answers.reasons, embeddings, topic=trends)
    evaluation = evaluate(
        stream,
        answers,
        offline,
        served=served,
        beside=beside,
        rules=options.rules,
        check=options.check,
        at=at,
        items=options.items,
    )
    results = results_of(
        evaluation, stream, answers, fingerprint=naming.stream, served=served, beside=beside, rules=options.rules,
        options=_reported(options), now=len(stream) - before, seconds=seconds,
    )  # fmt: skip

    # Report.
    write_results(results, evaluation.targets, stream.dataset, options.out, max_bytes=settings.fetch_max_bytes)
    show_results(results, options.out, console)
    return 0 if evaluation.agreement is None or evaluation.agreement.identical else DIFFERS


def _categories_of_a_recommendation(settings: Settings, served: Bundle, rules: Rules) -> int:
    """The maximum number of categories in a recommendation. Raises ReplayError when the rules look at more."""
    top = min(settings.top_k, len(served.categories))
    if max(rules.ks) > top:
        raise ReplayError(
            f"--k {max(rules.ks)}: a recommendation lists {top} categories: set TASTESTREAM_TOP_K for workers and replay"
        )
    return top


def _opened(options: ReplayOptions) -> tuple[EventStream, Naming]:
    """Open the data set and count its events. Raises ReplayError when there is nothing to play."""
    dataset = PreparedDataset(options.dataset)
    naming = Naming(dataset.fingerprint(), options.tag)
    return EventStream(dataset, options.selection, dataset.overview(options.selection)), naming


def _users_of(path: Path, stream: EventStream) -> frozenset[str]:
    """Read the users whose targets are measured, one a line. Raises ReplayError when it cannot be read, or one is not played."""
    try:
        users = frozenset(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ReplayError(f"--measured-users {path}: {error}: give a text file with one user a line") from error
    missing = sorted(users - stream.overview.of_user.keys())
    if missing or not users:
        found = (
            f"{len(missing):,} of its {len(users):,} users are not played, such as {missing[0]!r}"
            if missing
            else "it is empty"
        )
        raise ReplayError(f"--measured-users {path}: {found}: name users of the data set, one a line")
    return users


def _identity(settings: Settings, options: ReplayOptions, served: Bundle, naming: Naming) -> dict[str, Any]:
    """What must be the same for a run to resume."""
    return {
        "stream": naming.stream,
        **asdict(options.selection),
        "tag": options.tag,
        "bundle": f"{served.name} {served.version} {served.embedder_version}",
        "top_k": settings.top_k,
    }


def _reported(options: ReplayOptions) -> dict[str, Any]:
    """The options that the report mentions."""
    return {
        "lead": options.lead,
        "speed": options.pace.speed,
        "rate": options.pace.rate,
        "delay": options.delay,
        "tag": options.tag,
        "measured": "" if options.measured is None else options.measured.name,
    }
