"""The figures in the manifest of the shipped bundle are those of its files, on the photos that training has not seen."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from model.bundle import Bundle  # noqa: E402
from offline_training.bundles.photos import embed_held_out, measure_shipped, read_sources  # noqa: E402
from streams.demo.catalogue import CATALOGUE  # noqa: E402
from tests.data import DATA, needs  # noqa: E402
from tests.offline_training.silent import step  # noqa: E402

pytestmark = pytest.mark.training

CLOSE = 0.005  # processors differ in the last bits of a product, and a photo at a threshold then counts elsewhere


@needs("clothing", "grocery")
@pytest.mark.slow
def test_the_figures_are_those_of_the_files(tmp_path: Path) -> None:
    bundle = Bundle.load()
    sources = read_sources(DATA, Path(CATALOGUE))
    parts = embed_held_out(sources, bundle.backbone(threads=2), cache=tmp_path, step=step)
    measured = measure_shipped(bundle, parts)
    shipped = {name: bundle.manifest.metrics[name] for name in measured}
    assert {
        "held_out/as shipped",
        "demo_photos/as shipped",
        "held_out/one category, bags of 1",
        "kinds/grocery",
    } <= shipped.keys()
    far = {
        f"{name} {figure}": (value, measured[name][figure])
        for name, figures in shipped.items()
        for figure, value in figures.items()
        if abs(measured[name][figure] - value) > CLOSE
    }
    assert not far
