"""The alerts for Prometheus: each fires when it should, names metrics that exist, and leads to a section of the runbook."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.deploy.queries import ALERTS, ROOT, alerts, unknown
from tests.docs.test_claims import anchors
from tests.kafka.monitored import FAULTS

TESTS = ALERTS.with_name("alerts_test.yaml")
PAGES = "https://tastestream.example/"
NAMES = [alert["alert"] for alert in alerts()]
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], cwd=ALERTS.parent, capture_output=True, text=True, timeout=60)


@needs_promtool
def test_the_rules_are_valid() -> None:
    checked = promtool("check", "rules", "--lint-fatal", ALERTS.name)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(NAMES)} rules found" in checked.stdout


@needs_promtool
def test_each_alert_fires_when_it_should_and_not_before() -> None:
    tested = promtool("test", "rules", TESTS.name)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_has_a_test_in_which_it_fires(name: str) -> None:
    cases = yaml.safe_load(TESTS.read_text("utf-8"))["tests"]
    firing = [
        str(sample["labels"])
        for case in cases
        for check in case.get("promql_expr_test", [])
        for sample in check["exp_samples"]
    ]
    told = [check["alertname"] for case in cases for check in case.get("alert_rule_test", []) if check["exp_alerts"]]
    assert name in told or any(f'alertname="{name}"' in labels for labels in firing)


def test_the_documentation_names_the_fault_that_makes_each_alert_fire() -> None:
    page = (ROOT / "docs" / "operate" / "monitoring.md").read_text("utf-8")
    documented = re.findall(r"^\| `(Tastestream\w+)` \| (\w+) \| (.+) \|$", page, re.MULTILINE)
    severity = {alert["alert"]: alert["labels"]["severity"] for alert in alerts()}
    assert sorted(documented) == sorted((name, severity[name], fault.what) for fault in FAULTS for name in fault.alerts)
    assert [name for name, *_ in documented] == NAMES


@pytest.mark.parametrize("alert", alerts(), ids=NAMES)
def test_an_alert_leads_to_a_section_of_the_runbook(alert: dict[str, Any]) -> None:
    url: str = alert["annotations"]["runbook_url"]
    assert url.startswith(PAGES)
    path, _, anchor = url.removeprefix(PAGES).partition("#")
    page = ROOT / "docs" / path.replace(".html", ".md")
    assert page.name == "runbook.md"
    assert anchor in anchors(page)


@pytest.mark.parametrize("alert", alerts(), ids=NAMES)
def test_an_alert_says_how_severe_it_is_and_what_is_wrong(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    for text in (alert["annotations"]["summary"], alert["annotations"]["description"]):
        assert text.endswith(".") and len(text) > 20


@pytest.mark.parametrize("alert", alerts(), ids=NAMES)
def test_an_alert_asks_for_metrics_and_labels_that_exist(alert: dict[str, Any]) -> None:
    assert unknown(alert["expr"]) == []


def test_an_unknown_metric_or_label_is_found() -> None:
    assert unknown('sum(rate(tastestream_evens_total[5m])) / tastestream_lag{kind="embed", worker!="x"} > up') == [
        "tastestream_evens_total",
        "tastestream_lag{kind}",
    ]
