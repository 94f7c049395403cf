"""The serve worker without a broker: it waits, answers /live, answers from what is on disk, and says why it ends."""

from pathlib import Path

import pytest

from model.bundle import Bundle
from streams.runtime.bundle_reload import BundleReload
from streams.serve.worker import ServeWorker
from streams.settings import Settings
from tests.kafka.broker import free_port
from tests.kafka.system import stop, wait_until
from tests.streams.serve.process import PARTITIONS, bags_on_disk, get, run, worker


def test_without_bags_it_is_alive_and_not_ready(tmp_path: Path) -> None:
    port = free_port()
    with worker(tmp_path, port) as process:
        wait_until(lambda: get(port, "/live")[0] == 200, message=(tmp_path / "log").read_text)
        status, body = get(port, "/ready")
        assert (status, body["ready"], body["partitions"]) == (503, False, [])
        assert "no broker" in str(body["reason"])
        assert stop(process) == 0


def test_with_bags_it_answers_at_once_and_says_that_they_are_stale(tmp_path: Path) -> None:
    bags_on_disk(tmp_path)
    port = free_port()
    with worker(tmp_path, port) as process:
        wait_until(lambda: get(port, "/ready")[0] == 200, message=(tmp_path / "log").read_text)
        ready = get(port, "/ready")[1]
        shipped = Bundle.load()
        served = {"name": shipped.name, "version": shipped.version, "embedder_version": shipped.embedder_version}
        assert ready["bundles"] == get(port, "/v1/status")[1]["bundles"] == {"served": served, "next": None}
        partitions = ready["partitions"]
        assert isinstance(partitions, list) and len(partitions) == PARTITIONS
        for one in partitions:
            assert (one["offset"], one["lag"], one["source"]) == (41, None, "stale")
            assert one["age"] > 1e6
        assert stop(process) == 0


def test_requests_of_a_shop_without_a_trend_have_the_same_scorer(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path})
    worker = ServeWorker(settings, BundleReload(settings, "serve"), tmp_path)
    assert worker.scorer() == worker.scorer()  # those with the same one are scored in one call


@pytest.mark.parametrize(
    ("settings", "code", "told"),
    [
        ({"broker_timeout": 0.5}, 69, "no broker at 127.0.0.1"),
        (
            {"serve_partitions": "7"},
            78,
            "SERVE_PARTITIONS names partition 7, but the bags are in the partitions 0 to 1",
        ),
        ({"serve_host": "203.0.113.9"}, 78, "create one with `tastestream token create --scope read --name NAME`"),
        ({"serve_port": "tcp://10.0.0.1:6068"}, 78, "enableServiceLinks"),
    ],
)
def test_it_says_why_it_cannot_run(tmp_path: Path, settings: dict[str, object], code: int, told: str) -> None:
    if "broker_timeout" not in settings:
        bags_on_disk(tmp_path)
    ended = run(tmp_path, **settings)
    assert told in ended.stderr
    assert ended.returncode == code, ended.stderr


def test_a_second_worker_of_one_folder_is_refused(tmp_path: Path) -> None:
    port = free_port()
    with worker(tmp_path, port):
        wait_until(lambda: get(port, "/live")[0] == 200)
        ended = run(tmp_path)
        assert ended.returncode == 78
        assert "each serve worker needs its own" in ended.stderr


def test_bags_of_partitions_that_are_not_served_leave_the_disk(tmp_path: Path) -> None:
    bags_on_disk(tmp_path)
    ended = run(tmp_path, serve_partitions="1", serve_host="203.0.113.9")
    assert ended.returncode == 78
    assert [path.name for path in (tmp_path / "serve" / "bags").iterdir()] == ["partition-1"]
