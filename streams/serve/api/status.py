"""What the worker answers from, and whether it does."""

from importlib.metadata import version

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams.serve.api.context import Call
from streams.serve.api.parameters import NoQuery
from streams.serve.api.problems import PROBLEMS, Problem
from streams.serve.api.replies import reply
from streams.serve.api.routes import Route
from streams.serve.api.types import LiveAnswer, ProblemPage, ReadyAnswer, StatusAnswer
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
        ready=serving.bags.ready,
        model=model_of(scorer.recommender),
        embedder=bundle.embedder_version,
        categories=list(bundle.categories),
        trend_version=scorer.trend.version,
        items=len(serving.catalogue),
        streams=len(call.api.streams),
        partitions=serving.bags.states(),
    )
    return reply(answer, headers=_FRESH)


async def live(call: Call[NoQuery, None]) -> web.StreamResponse:
    """200 while the event loop runs."""
    del call
    return reply(LiveAnswer(live=True), headers=_FRESH)


async def ready(call: Call[NoQuery, None]) -> web.StreamResponse:
    """200 once each partition was read to its end; 503 before that. A stale replica is ready: it says so in each answer."""
    bags = call.api.serving.bags
    states = bags.states()
    reason = ""
    if not bags.ready:
        left = sum(state.lag or 0 for state in states)
        reason = (
            f"reading the bags: at most {left} records of the changelog are left"
            if states
            else "no broker has answered, and there are no bags on disk"
        )
    answer = ReadyAnswer(ready=bags.ready, reason=reason, partitions=states)
    return reply(answer, status=200 if bags.ready else 503, headers=_FRESH)


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
        summary="Whether the worker runs.",
        scope=None,
        handler=live,
        answer=LiveAnswer,
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
