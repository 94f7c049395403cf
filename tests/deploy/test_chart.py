"""The Helm chart: what it renders is valid Kubernetes, fits the code, and runs with as few rights as possible."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.kafka.topics import topic_specs
from streams.runtime import process
from streams.settings import PREFIX, Settings
from streams.settings.names import EMBED_GROUP, in_namespace
from tests.deploy.queries import DEPLOY

CHART = DEPLOY / "helm" / "tastestream"
EVERYTHING = CHART / "ci" / "everything.yaml"
KUBERNETES = "1.34"
OLDEST = (
    yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
)
OPERATORS = ("keda.sh/v1alpha1", "monitoring.coreos.com/v1")  # their kinds are not Kubernetes' own
Manifest = dict[str, Any]

pytestmark = pytest.mark.skipif(
    shutil.which("helm") is None, reason="helm is not installed (go install helm.sh/helm/v3/cmd/helm@latest)"
)
validates = pytest.mark.skipif(
    shutil.which("kubernetes-validate") is None,
    reason="kubernetes-validate is not installed (pip install kubernetes-validate)",
)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["helm", *arguments], capture_output=True, text=True, timeout=60)


def rendered(*arguments: str, version: str = KUBERNETES) -> list[Manifest]:
    done = helm("template", "shop", str(CHART), "--kube-version", version, *arguments)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="module", params=[(), ("--values", str(EVERYTHING))], ids=["default", "everything"])
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(*request.param)


@pytest.fixture(scope="module")
def everything() -> list[Manifest]:
    return rendered("--values", str(EVERYTHING))


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pod specifications by component."""
    templates = [manifest["spec"]["template"] for manifest in manifests if "template" in manifest.get("spec", {})]
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"] for one in templates}


def container(pod: Manifest) -> Manifest:
    [only] = pod["containers"]
    return only


def environment(pod: Manifest) -> dict[str, Any]:
    return {one["name"]: one["value"] for one in container(pod)["env"]}


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


@pytest.mark.parametrize("values", [(), ("--values", str(EVERYTHING))], ids=["default", "everything"])
def test_helm_finds_nothing_wrong(values: tuple[str, ...]) -> None:
    linted = helm("lint", "--strict", str(CHART), *values)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@validates
@pytest.mark.parametrize("version", [OLDEST, KUBERNETES])
@pytest.mark.parametrize("values", [(), ("--values", str(EVERYTHING))], ids=["default", "everything"])
def test_the_manifests_are_valid(values: tuple[str, ...], version: str, tmp_path: Path) -> None:
    file = tmp_path / "manifests.yaml"
    manifests = rendered(*values, version=version)
    file.write_text(yaml.safe_dump_all([one for one in manifests if one["apiVersion"] not in OPERATORS]))
    assert_valid(file, version)


@validates
def test_the_job_that_trains_is_valid() -> None:
    assert_valid(DEPLOY / "retrain-cronjob.yaml")


def assert_valid(file: Path, version: str = KUBERNETES) -> None:
    words = ["kubernetes-validate", "--strict", "--kubernetes-version", version, str(file)]
    checked = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_there_is_a_pod_for_each_worker_and_one_for_the_topics(
    manifests: list[Manifest], everything: list[Manifest]
) -> None:
    assert set(pods(manifests)) >= {"embed", "profile", "topics"}
    assert {kind: container(pod)["args"] for kind, pod in pods(everything).items()} == {
        "topics": ["topics"],
        **{kind: ["worker", kind] for kind in ("embed", "profile", "serve")},
    }


def test_every_variable_is_a_setting(manifests: list[Manifest]) -> None:
    for pod in pods(manifests).values():
        for name, value in environment(pod).items():
            assert name.removeprefix(PREFIX).lower() in Settings.model_fields
            assert isinstance(value, str)
        assert pod["enableServiceLinks"] is False  # Kubernetes' own variables would look like settings


def test_a_pod_has_as_few_rights_as_possible(manifests: list[Manifest]) -> None:
    for pod in pods(manifests).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001  # as in the Dockerfile
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container(pod)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container(pod)["resources"]["limits"]["memory"]


def test_a_pod_can_write_to_its_data_folder_and_to_tmp(manifests: list[Manifest]) -> None:
    claims = {claim["metadata"]["name"] for one in manifests for claim in one["spec"].get("volumeClaimTemplates", [])}
    for kind, pod in pods(manifests).items():
        volumes = {volume["name"] for volume in pod["volumes"]} | (claims if kind == "profile" else set())
        mounts = {mount["mountPath"]: mount["name"] for mount in container(pod)["volumeMounts"]}
        assert environment(pod)["TASTESTREAM_DATA_DIR"] in mounts
        assert "tmp" in mounts.values()
        assert set(mounts.values()) <= volumes


@pytest.mark.parametrize("kind", ["embed", "profile", "serve"])
def test_the_probes_ask_the_port_of_the_worker(kind: str, everything: list[Manifest]) -> None:
    pod = container(pods(everything)[kind])
    port = Settings.model_fields[f"{kind}_port"].default
    assert [one["containerPort"] for one in pod["ports"]] == [port]
    paths = {"startupProbe": "/ready", "readinessProbe": "/ready", "livenessProbe": "/live"}
    assert {probe: pod[probe]["httpGet"] for probe in paths} == {
        probe: {"path": path, "port": port} for probe, path in paths.items()
    }


def test_a_profile_worker_has_an_hour_to_read_the_bags(manifests: list[Manifest]) -> None:
    probe = container(pods(manifests)["profile"])["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 3600


def test_a_worker_has_enough_time_to_stop(everything: list[Manifest]) -> None:
    for kind in ("embed", "profile", "serve"):
        pod = pods(everything)[kind]
        before = container(pod).get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
        assert pod["terminationGracePeriodSeconds"] >= int(before[1]) + process.STOP_TIMEOUT + 4


def test_nothing_takes_more_than_one_worker_of_a_kind_at_a_time(everything: list[Manifest]) -> None:
    labels = {kind: found["spec"]["selector"]["matchLabels"] for kind, found in controllers(everything).items()}
    budgets = of_kind(everything, "PodDisruptionBudget")
    guarded = {one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]: one["spec"] for one in budgets}
    assert {kind: one["selector"]["matchLabels"] for kind, one in guarded.items()} == labels
    assert all(one["maxUnavailable"] == 1 for one in guarded.values())


def controllers(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Deployments and StatefulSets, by component."""
    found = of_kind(manifests, "Deployment") + of_kind(manifests, "StatefulSet")
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in found}


def test_embed_workers_scale_on_the_lag_of_their_group(everything: list[Manifest]) -> None:
    [scaled] = of_kind(everything, "ScaledObject")
    [trigger] = scaled["spec"]["triggers"]
    settings = Settings(namespace="shop")  # pyright: ignore[reportCallIssue]
    assert trigger["metadata"]["consumerGroup"] == in_namespace("shop", EMBED_GROUP)
    assert trigger["metadata"]["topic"] == settings.interactions_topic
    assert trigger["metadata"]["topic"] in {topic.name for topic in topic_specs(settings)}
    embed = controllers(everything)["embed"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == embed["metadata"]["name"]
    assert "replicas" not in embed["spec"]  # an upgrade would undo what KEDA did


def test_serve_workers_scale_on_their_processor(everything: list[Manifest]) -> None:
    [scaler] = of_kind(everything, "HorizontalPodAutoscaler")
    serve = controllers(everything)["serve"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == serve["metadata"]["name"]
    assert "replicas" not in serve["spec"]


def test_the_topics_are_made_before_the_workers(manifests: list[Manifest]) -> None:
    [job] = of_kind(manifests, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    [rule] = job["spec"]["podFailurePolicy"]["rules"]
    assert process.MISCONFIGURED in rule["onExitCodes"]["values"]
    assert process.UNAVAILABLE not in rule["onExitCodes"]["values"]


def test_each_pod_is_reached_by_those_who_have_to(everything: list[Manifest]) -> None:
    policies = {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]
        for one in of_kind(everything, "NetworkPolicy")
    }
    assert set(policies) == set(pods(everything))
    assert policies["topics"]["ingress"] == []
    pictures = {kind: any("to" in rule for rule in one["egress"]) for kind, one in policies.items()}
    assert pictures == {"embed": True, "profile": False, "serve": False, "topics": False}
    for one in policies.values():
        assert {"protocol": "TCP", "port": 9093} in one["egress"][1]["ports"]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("embed.replica=3", "replica"),
        ("profile.replicas=-1", "replicas"),
        ("brokers=kafka://a:9092", "brokers"),
        ("settings.PARTITIONS=8", "PARTITIONS"),
        ("settings.BROKER=a", "BROKER"),
        ("profile.storage.size=ten", "size"),
        ("networkPolicy.kafkaPorts=null", "kafkaPorts"),
        ("serve.enabled=true", "tokensSecret"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(value: str, named: str) -> None:
    refused = helm("template", "shop", str(CHART), "--kube-version", KUBERNETES, "--set", value)
    assert refused.returncode != 0
    assert named in refused.stderr
