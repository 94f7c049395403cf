"""What the worker answers from, and whether it does."""

from importlib.metadata import version

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams.kafka.fleet import MemberBundles
from streams.serve.api.context import Call
from streams.serve.api.parameters import NoQuery
from streams.serve.api.problems import PROBLEMS, Problem
from streams.serve.api.replies import reply
from streams.serve.api.routes import Route
from streams.serve.api.types.status import LiveAnswer, ProblemPage, ReadyAnswer, StatusAnswer
from streams.serve.api.users import model_of
from streams.text import visible

_VERSION = version("tastestream")
_FRESH = {hdrs.CACHE_CONTROL: "no-store"}


async def status(call: Call[NoQuery, None]) -> web.StreamResponse:
    """What the worker answers from."""
    serving = call.api.serving
    scorer = serving.scorer()
    bundle = scorer.recommender.bundle
    answer = StatusAnswer(
        version=_VERSION,
        ready=serving.ready,
        model=model_of(scorer.recommender),
        bundles=MemberBundles.of(serving.bundles),
        embedder=bundle.embedder_version,
        categories=list(bundle.categories),
        trend_version=scorer.trend.version,
        items=len(serving.catalogue),
        streams=len(call.api.seats),
        scopes=sorted(call.scopes),
        catalogue_ready=serving.catalogue.ready,
        partitions=serving.bags.states(),
    )
    return reply(answer, headers=_FRESH)


async def live(call: Call[NoQuery, None]) -> web.StreamResponse:
    """200 while the worker gets on, or waits for a broker; 503 once it has stalled for half of the time after which it ends."""
    dog = call.api.serving.watchdog
    answer = LiveAnswer(live=dog.live, seconds_without_progress=round(dog.seconds, 1))
    return reply(answer, status=200 if answer.live else 503, headers=_FRESH)


async def ready(call: Call[NoQuery, None]) -> web.StreamResponse:
    """200 once each partition was read to its end, and the trend; 503 before. A stale replica is ready: each answer says so."""
    serving = call.api.serving
    states = serving.bags.states()
    reason = ""
    if not serving.bags.ready:
        left = sum(state.lag or 0 for state in states)
        reason = (
            f"reading the bags: at most {left} records of the changelog are left"
            if states
            else "no broker has answered, and there are no bags on disk"
        )
    elif not serving.ready:
        reason = "reading the trend"
    bundles = MemberBundles.of(serving.bundles)
    answer = ReadyAnswer(ready=serving.ready, reason=reason, bundles=bundles, partitions=states)
    return reply(answer, status=200 if serving.ready else 503, headers=_FRESH)


async def metrics(call: Call[NoQuery, None]) -> web.StreamResponse:
    """Prometheus text format."""
    del call
    return web.Response(body=generate_latest(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})


async def problem(call: Call[NoQuery, None]) -> web.StreamResponse:
    """What a kind of problem is: where the `type` of a problem document leads."""
    reason = call.path["reason"]
    if reason not in PROBLEMS:
        raise Problem("unknown_route", f"{visible(reason[:64])} is no kind of problem")
    kind = PROBLEMS[reason]
    return reply(ProblemPage(reason=reason, status=kind.status, title=kind.title, remedy=kind.remedy))


ROUTES = [
    Route(
        method="GET",
        path="/v1/status",
        name="status",
        summary="What the worker answers from: bundle, trend, partitions and how far they are.",
        scope="read",
        handler=status,
        answer=StatusAnswer,
    ),
    Route(
        method="GET",
        path="/live",
        name="live",
        summary="Whether the worker gets on.",
        scope=None,
        handler=live,
        answer=LiveAnswer,
        also={503: "It has stalled."},
    ),
    Route(
        method="GET",
        path="/ready",
        name="ready",
        summary="Whether the worker has read all bags once.",
        scope=None,
        handler=ready,
        answer=ReadyAnswer,
        also={503: "It has not."},
    ),
    Route(
        method="GET",
        path="/metrics",
        name="metrics",
        summary="Metrics in the Prometheus text format.",
        scope="read",
        handler=metrics,
        answer=str,
        media="text/plain",
    ),
    Route(
        method="GET",
        path="/problems/{reason}",
        name="problem",
        summary="What a kind of problem is.",
        scope=None,
        handler=problem,
        answer=ProblemPage,
        problems=("unknown_route",),
    ),
]
