"""The dashboards for Grafana are current, and ask for metrics that the workers expose."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.dashboards import DASHBOARDS, FOLDER, files, narrowed
from tests.deploy.queries import unknown

PANELS: dict[str, dict[str, Any]] = {
    f"{name}: {panel['title']}": panel for name, text in files().items() for panel in json.loads(text)["panels"]
}


@pytest.mark.parametrize("name", [f"{name}.json" for name in DASHBOARDS])
def test_a_dashboard_is_current(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == files()[name], "run make reference"


def test_there_are_no_other_dashboards() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(files())


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_asks_for_metrics_that_exist_and_for_the_chosen_job(name: str) -> None:
    for target in PANELS[name]["targets"]:
        assert unknown(target["expr"]) == []
        assert 'job=~"$job"' in target["expr"]


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)
def test_prometheus_understands_each_query(tmp_path: Path) -> None:
    queries = [target["expr"] for panel in PANELS.values() for target in panel["targets"]]
    records = [
        {"record": f"query_{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries)
    ]
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": records}]}))
    checked = subprocess.run(["promtool", "check", "rules", str(rules)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", files())
def test_panels_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(files()[name])["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells


def test_a_query_is_narrowed_down_to_the_chosen_job() -> None:
    assert narrowed('sum(rate(tastestream_lag{worker="embed"}[1m])) / up') == (
        'sum(rate(tastestream_lag{job=~"$job", worker="embed"}[1m])) / up{job=~"$job"}'
    )
