"""What the alerts and dashboards under `deploy/` ask for is what running workers answer."""

import asyncio

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.dashboards import DASHBOARDS
from tests.deploy.queries import ALWAYS, alerts, selectors
from tests.kafka.system import System, picture_server

ASKED = {
    **{f"alert {alert['alert']}": [alert["expr"]] for alert in alerts()},
    **{
        f"{title}: {panel.title}": list(panel.queries.values())
        for title, panels in DASHBOARDS.values()
        for panel in panels
    },
}
KINDS = ("embed", "profile", "serve")


@pytest.fixture(scope="module")
def exposed(system: System) -> dict[str, set[str]]:
    """The series that workers of all kinds expose after an event, each with its labels, as far as a sample shows them."""
    system.configure(namespace="monitored")
    folder = system.folder / "pictures"
    folder.mkdir()
    Image.new("RGB", (64, 64), "red").save(folder / "boot.png")
    with picture_server(folder) as pictures, system.workers(*KINDS):
        event = {"user_id": "ada", "item_id": "boot", "type": "view", "timestamp": 1_400_000_000_000}
        asyncio.run(system.produce([event | {"image_url": f"{pictures}/boot.png"}, event | {"image_url": "none"}]))
        asyncio.run(system.settled())
        pages = [system.get(kind, "/metrics") for kind in KINDS]
    assert [status for status, _ in pages] == [200, 200, 200]
    series: dict[str, set[str]] = {}
    for _, text in pages:
        for family in text_string_to_metric_families(text):
            parts = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            for name in (family.name + part for part in parts):
                series.setdefault(name, set())
            for sample in family.samples:
                series.setdefault(sample.name, set()).update(sample.labels)
    return series


@pytest.mark.parametrize("name", ASKED)
def test_a_running_worker_exposes_what_an_alert_or_a_panel_asks_for(name: str, exposed: dict[str, set[str]]) -> None:
    for query in ASKED[name]:
        for metric, labels in selectors(query):
            if metric == "up":  # Prometheus itself knows
                continue
            assert metric in exposed
            assert not exposed[metric] or labels - ALWAYS <= exposed[metric]


def test_the_event_and_the_dead_letter_are_counted(exposed: dict[str, set[str]]) -> None:
    """If nothing had happened, no label would have been compared."""
    assert exposed["tastestream_events_total"] == {"worker"}
    assert exposed["tastestream_dead_letters_total"] == {"worker", "reason"}
    assert exposed["tastestream_pictures_total"] == {"where"}
