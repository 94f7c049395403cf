"""Several pages in the Prometheus text format as one, each sample with the worker that it comes from. Pure."""

from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from typing_extensions import override

WORKER = "worker"  # the label


def families_of(worker: str, page: str) -> list[Metric]:
    """The families on the page of a worker. A sample that has a label `worker` keeps it; the others get one.

    Raises:
        ValueError: the page is not in the text format.
    """
    found: list[Metric] = []
    for family in text_string_to_metric_families(page):
        family.samples = [_labelled(sample, worker) for sample in family.samples]
        found.append(family)
    return found


def merged(pages: Iterable[Iterable[Metric]]) -> bytes:
    """The families of several pages as one page, each family once."""
    found: dict[str, Metric] = {}
    for family in chain.from_iterable(pages):
        if family.name in found:
            found[family.name].samples += family.samples
        else:
            found[family.name] = family
    return generate_latest(_Families(found.values()))  # pyright: ignore[reportArgumentType] -- it only calls `collect`


def _labelled(sample: Sample, worker: str) -> Sample:
    return sample if WORKER in sample.labels else sample._replace(labels={WORKER: worker, **sample.labels})


class _Families(Collector):
    def __init__(self, found: Collection[Metric]) -> None:
        self._found = found

    @override
    def collect(self) -> Iterator[Metric]:
        yield from self._found
