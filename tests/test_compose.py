"""docker-compose.yml fits the code: its settings, ports, commands and versions are those of the code."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from streams import cli
from streams.embed.decoding.pool import DECODERS
from streams.runtime import process
from streams.runtime.supervisor import KINDS
from streams.settings import PREFIX, Settings, read_settings
from tests.kafka.distribution import KAFKA_VERSION

REPOSITORY = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text("utf-8"))
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text("utf-8")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
KAFKA = SERVICES["kafka"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
WORKERS = [name for name in OURS if SERVICES[name]["command"][0] == "worker"]


def settings_of(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Settings:
    """The settings of a service, from its environment and that of the image."""
    for variable in [variable for variable in os.environ if variable.upper().startswith(PREFIX)]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(folder)  # a folder without .env
    for variable, value in {**image_environment(), **SERVICES[name]["environment"]}.items():
        monkeypatch.setenv(variable, value)
    return read_settings()


def image_environment() -> dict[str, str]:
    return dict(re.findall(rf"\b({PREFIX}\w+)=(\S+)", DOCKERFILE.rsplit("\nFROM ", 1)[1]))


def volumes(name: str) -> dict[str, str]:
    """The named volumes of a service, by their path in the container."""
    pairs = (str(volume).split(":") for volume in SERVICES[name].get("volumes", []))
    return {pair[1]: pair[0] for pair in pairs if len(pair) > 1 and pair[0] in COMPOSE["volumes"]}


def seconds(duration: str) -> int:
    found = re.fullmatch(r"(\d+)s", duration)
    assert found, f"{duration} is not a number of seconds"
    return int(found[1])


def test_there_is_a_service_for_each_worker_and_one_for_the_topics() -> None:
    kinds = [["worker", kind] for kind in KINDS]
    assert [SERVICES[name]["command"] for name in OURS] == [["topics"], *kinds]


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_a_service_is_a_setting(name: str) -> None:
    variables = {*SERVICES[name]["environment"], *image_environment()}
    unknown = [variable for variable in variables if variable.removeprefix(PREFIX).lower() not in Settings.model_fields]
    assert not unknown
    assert all(variable.startswith(PREFIX) and variable.isupper() for variable in variables)


@pytest.mark.parametrize("name", OURS)
def test_every_value_of_a_service_is_valid(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = settings_of(name, monkeypatch, tmp_path)
    for variable, value in SERVICES[name]["environment"].items():
        assert isinstance(value, str), f"{variable} is not quoted: YAML may write {value!r} another way"
    assert str(settings.data_dir) == ("/data" if name in WORKERS else "/tmp/data")  # noqa: S108 -- tmpfs on /data belongs to root


@pytest.mark.parametrize("name", OURS)
def test_the_services_use_the_address_that_kafka_advertises(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    advertised = KAFKA["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    [inside] = settings_of(name, monkeypatch, tmp_path).bootstrap_servers
    assert inside in [listener.partition("://")[2] for listener in advertised if listener.startswith("INSIDE:")]


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_command_of_the_command_line(name: str) -> None:
    group: Any = typer.main.get_command(cli.app)
    words = list(SERVICES[name]["command"])
    context = group.make_context("tastestream", list(words))
    command, found, arguments = group.resolve_command(context, words)  # raises UsageError for an unknown command
    found.make_context(command, arguments, parent=context)  # raises for a bad argument


@pytest.mark.parametrize("name", WORKERS)
def test_a_health_check_uses_the_port_of_its_worker(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = settings_of(name, monkeypatch, tmp_path)
    port = getattr(settings, f"{SERVICES[name]['command'][1]}_port")
    health = SERVICES[name]["healthcheck"]
    assert re.findall(r"http://[^']+", " ".join(health["test"])) == [f"http://127.0.0.1:{port}/ready"]
    assert health["test"][:2] == ["CMD", "python"]
    compile(health["test"][3], "the health check", "exec")


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_is_restarted_and_has_enough_time_to_stop(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert seconds(SERVICES[name]["stop_grace_period"]) >= process.STOP_TIMEOUT + 4
    assert SERVICES[name]["mem_limit"]


def test_the_memory_limit_of_the_embed_worker_holds_both_decoders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit = re.fullmatch(r"(\d+)m", SERVICES["embed"]["mem_limit"])
    assert limit
    decoders = DECODERS * settings_of("embed", monkeypatch, tmp_path).decoder_memory
    assert int(limit[1]) * 1024**2 >= decoders + 300 * 1024**2


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_starts_after_kafka_and_the_topics(name: str) -> None:
    conditions = {other: wait["condition"] for other, wait in SERVICES[name]["depends_on"].items()}
    assert conditions == {"kafka": "service_healthy", "topics": "service_completed_successfully"}
    assert KAFKA["healthcheck"]["test"]


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_keeps_its_data_folder_in_a_volume(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert str(settings_of(name, monkeypatch, tmp_path).data_dir) in volumes(name)
    assert "\nVOLUME /data\n" in DOCKERFILE


def test_no_two_services_share_a_volume() -> None:
    used = [volume for name in SERVICES for volume in volumes(name).values()]
    assert sorted(used) == sorted(COMPOSE["volumes"])


def test_kafka_has_the_version_of_the_tests() -> None:
    image, _, version = KAFKA["image"].partition(":")
    assert image == "apache/kafka"
    assert version.split(".")[:2] == KAFKA_VERSION.split(".")[:2]


def test_kafka_keeps_its_log_in_its_volume() -> None:
    assert KAFKA["environment"]["KAFKA_LOG_DIRS"] in volumes("kafka")


def test_ports_are_open_only_on_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:9092:9092", "127.0.0.1:9090:9090", "127.0.0.1:3000:3000"]
    assert "HOST://localhost:9092" in KAFKA["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")


def test_prometheus_scrapes_the_workers_that_answer_it_and_nobody_outside_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = yaml.safe_load((REPOSITORY / "deploy/prometheus/prometheus.yaml").read_text("utf-8"))
    [job] = config["scrape_configs"]
    expected: list[str] = []
    for name in ("embed", "profile"):
        settings = settings_of(name, monkeypatch, tmp_path)
        assert settings.web_host == "0.0.0.0"
        assert "ports" not in SERVICES[name]
        expected.append(f"{name}:{getattr(settings, f'{name}_port')}")
    assert job["job_name"] == "tastestream"
    assert job["static_configs"] == [{"targets": expected}]


def test_the_monitoring_starts_only_if_it_is_asked_for() -> None:
    optional = {name for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]}
    assert optional == {"prometheus", "grafana"}


@pytest.mark.parametrize("name", list(SERVICES))
def test_a_folder_that_a_service_mounts_exists(name: str) -> None:
    folders = [volume.split(":")[0] for volume in SERVICES[name].get("volumes", []) if volume.startswith("./")]
    assert all((REPOSITORY / folder).is_dir() for folder in folders)
