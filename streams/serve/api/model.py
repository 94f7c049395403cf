"""GET /v1/model: the bundles, their figures, what the bags make of them, how far a rollout is, and which worker has which."""

from collections import Counter
from collections.abc import Sequence

from aiohttp import hdrs, web

from model.bundle import Bundle
from streams.profile.bag import Bag
from streams.profile.prepared import CodeState
from streams.profile.scoring import Recommender
from streams.serve.api.context import Call, replica
from streams.serve.api.parameters import NoQuery
from streams.serve.api.replies import reply
from streams.serve.api.routes import Route
from streams.serve.api.types.model import BagSample, BundleAnswer, LearntFrom, ModelAnswer, RolloutAnswer, SourceAnswer
from streams.serve.api.users import why_not
from streams.serve.interface import Prepared

SLOTS = 1000  # items of bags that are looked at: some ten milliseconds
CALIBRATION = "calibration error"  # the name of this figure in a manifest


async def model(call: Call[NoQuery, None]) -> web.StreamResponse:
    """The bundles and how they do."""
    serving = call.api.serving
    bundles, recommender = serving.bundles, serving.scorer().recommender
    with replica():
        bags = serving.bags.sample(SLOTS)
    answer = ModelAnswer(
        served=described(recommender.bundle),
        next=described(bundles.next) if bundles.next else None,
        sample=tally(list(bags.values()), recommender),
        rollout=progress(serving.prepared, len(serving.bags.states())) if serving.prepared else None,
        workers=list(serving.overview.workers),
    )
    return reply(answer, headers={hdrs.CACHE_CONTROL: "no-store"})


def described(bundle: Bundle) -> BundleAnswer:
    """What the manifest of a bundle says."""
    manifest, data = bundle.manifest, bundle.manifest.data
    return BundleAnswer(
        name=bundle.name,
        version=bundle.version,
        embedder_version=bundle.embedder_version,
        backbone_version=bundle.backbone_version,
        labels_version=bundle.labels_version,
        image_size=bundle.image_size,
        embedding_size=bundle.embedding_size,
        max_bag=manifest.max_bag,
        categories=list(bundle.categories),
        prior=[round(one, 5) for one in manifest.prior],
        fields=[field.name for field in manifest.fields],
        task=manifest.training.task,
        command=manifest.training.command,
        trained=manifest.training.date,
        adapts=manifest.adapts.embedder_version if manifest.adapts else "",
        data=None
        if data is None
        else LearntFrom(
            source=data.source,
            users=data.users,
            items=data.items,
            events=data.events,
            from_time=data.from_time,
            to_time=data.to_time,
        ),
        sources=[SourceAnswer(one.name, one.use, one.licence, one.attribution) for one in manifest.sources],
        figures=manifest.metrics,
        calibration={task: found[CALIBRATION] for task, found in manifest.metrics.items() if CALIBRATION in found},
    )


def progress(prepared: Prepared, partitions: int) -> RolloutAnswer:
    """How far a rollout is."""
    states: Counter[CodeState] = Counter(prepared.states)
    items, ready = states.total(), states["native"] + states["adapted"]
    return RolloutAnswer(
        items=items,
        native=states["native"],
        adapted=states["adapted"],
        stale=states["stale"],
        missing=states["missing"],
        share=ready / items if items else 1.0,
        needed=prepared.needed,
        counted=prepared.counted,
        partitions=partitions,
    )


def tally(bags: Sequence[Bag], recommender: Recommender) -> BagSample:
    """Count what can be scored in some bags."""
    left: Counter[str] = Counter()
    items = scored = cold = 0
    for bag in filter(lambda one: one.slots, bags):  # an erased user has a bag without items
        reasons = [why_not(slot, recommender) for slot in bag.slots.values()]
        usable = reasons.count("beyond_bag_size")  # what else could keep an item from being scored does not apply
        within = min(usable, recommender.options.bag_size)
        items, scored, cold = items + len(reasons), scored + within, cold + (not within)
        left.update(reason for reason in reasons if reason != "beyond_bag_size")
        left["beyond_bag_size"] += usable - within
    return BagSample(
        bags=sum(bool(bag.slots) for bag in bags),
        items=items,
        scored=scored,
        not_scored={reason: count for reason, count in left.items() if count},
        cold=cold,
    )


ROUTES = [
    Route(
        method="GET",
        path="/v1/model",
        name="model",
        summary="The bundles with their figures, what they make of a sample of bags, how far a rollout is, and which worker has which.",
        scope="read",
        handler=model,
        answer=ModelAnswer,
        problems=("state_unreadable",),
    )
]
