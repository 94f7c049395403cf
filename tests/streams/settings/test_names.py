"""A namespace is the prefix of every name at the broker that no setting names, and of nothing else."""

from pathlib import Path

import pytest

from streams.exceptions import StartupError
from streams.kafka.topics import topic_specs
from streams.schema import asyncapi
from streams.settings import Settings, read_settings
from streams.settings.names import BAGS_CHANGELOG, MAX_NAMESPACE, MAX_TOPIC

NAMES_WITHOUT_NAMESPACE = {
    "user-interactions",
    "embedded-interactions",
    "tastestream-profile-bags-changelog",
    "user-recommendations",
    "user-recommendations-next",
    "user-interactions-dlq",
    "picture-features",
    "items",
    "category-trend",
    "tastestream-embed",
    "tastestream-embed-items",
    "tastestream-profile",
    "tastestream",
}


def names_of(settings: Settings) -> set[str]:
    """All topics, groups and clients."""
    topics = {spec.name for spec in topic_specs(settings)}
    return topics | {
        settings.embed_group,
        settings.items_group,
        settings.profile_group,
        settings.aiokafka()["client_id"],
    }


def test_a_worker_keeps_its_name_in_its_group_only_if_asked_to() -> None:
    known = [
        read_settings(worker_host="web1", namespace="shop", static_membership=static)
        .of_worker("profile")
        .group_instance_id
        for static in (True, False)
    ]
    assert known == ["shop-profile-web1", None]


def refusal() -> str:
    with pytest.raises(StartupError) as refused:
        read_settings()
    return str(refused.value)


def test_without_a_namespace_the_names_are_those_of_every_installation_so_far() -> None:
    assert names_of(read_settings(next_bundle="next")) == NAMES_WITHOUT_NAMESPACE


def test_a_bundle_without_labels_has_no_topic_of_the_trend() -> None:
    settings = read_settings()
    with_trend, without = ({spec.name for spec in topic_specs(settings, trend=trend)} for trend in (True, False))
    assert with_trend - without == {"category-trend"}


@pytest.mark.parametrize("namespace", ["shop", "Shop.eu_1-2", "x" * MAX_NAMESPACE])
def test_with_a_namespace_every_name_has_its_prefix_and_fits(namespace: str) -> None:
    names = names_of(read_settings(namespace=namespace, next_bundle="next"))
    assert names == {f"{namespace}-{name}" for name in NAMES_WITHOUT_NAMESPACE}
    assert max(map(len, names)) <= MAX_TOPIC


def test_validated_again_a_name_gets_no_second_prefix() -> None:
    settings = Settings.model_validate({"namespace": "shop", "worker_host": "web1"})
    assert settings.model_dump() == read_settings(namespace="shop", worker_host="web1").model_dump()
    second = settings.of_generation(2)
    assert Settings.model_validate(second).embedded_topic == "shop-embedded-interactions-g2"
    assert Settings.model_validate(settings.model_dump()).model_dump() == settings.model_dump()


def test_two_namespaces_have_no_name_in_common() -> None:
    spaces = ["", "shop", "shop-eu", "tastestream", "user", "user-interactions", "tastestream-profile-bags"]
    names = [name for space in spaces for name in names_of(read_settings(namespace=space, next_bundle="next"))]
    assert len(names) == len(set(names))


def test_a_topic_that_is_named_by_hand_keeps_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_NAMESPACE", "shop")
    monkeypatch.setenv("TASTESTREAM_INTERACTIONS_TOPIC", "user-interactions")  # although it is the default's name
    (folder / ".env").write_text("TASTESTREAM_DLQ_TOPIC=letters\n")
    settings = read_settings(recommendations_topic="out")
    assert settings.interactions_topic == "user-interactions"
    channels = asyncapi(settings)["channels"].values()
    expected = {"user-interactions", "letters", "out", "shop-embedded-interactions", "shop-items"}
    assert {one["address"] for one in channels} == expected


def test_an_empty_name_is_not_a_name_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_NAMESPACE", "shop")
    monkeypatch.setenv("TASTESTREAM_DLQ_TOPIC", "")
    assert read_settings().dlq_topic == "shop-user-interactions-dlq"


@pytest.mark.parametrize("written", ['"shop"', " shop ", "shop\r"])
def test_quotes_and_white_space_around_a_namespace_do_not_count(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("TASTESTREAM_NAMESPACE", written)
    assert read_settings().embed_group == "shop-tastestream-embed"


def test_the_files_of_a_namespace_lie_in_a_folder_of_their_own() -> None:
    assert read_settings(data_dir="/data").state_dir == Path("/data")
    assert read_settings(data_dir="/data", namespace="shop").state_dir == Path("/data/shop")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("my shop", "it holds ' ', and Kafka accepts only"),
        ("shop/eu", "it holds '/', and Kafka accepts only"),
        ("bücher", "it holds 'ü', and Kafka accepts only"),
        ("..", "it has to begin and end with a letter or a digit"),
        ("../../etc", "it holds '/'"),
        ("shop-", "it has to begin and end with a letter or a digit; names get a '-' after it anyway, as in shop-tastestream-embed"),
        ("_shop", "it has to begin and end with a letter or a digit"),
        ("x" * (MAX_NAMESPACE + 1), f"it has {MAX_NAMESPACE + 1} characters, and may have {MAX_NAMESPACE}"),
    ],
)  # fmt: skip
def test_a_namespace_that_makes_no_names_is_refused(monkeypatch: pytest.MonkeyPatch, value: str, told: str) -> None:
    monkeypatch.setenv("TASTESTREAM_NAMESPACE", value)
    message = refusal()
    assert message.startswith(f"setting TASTESTREAM_NAMESPACE is {value!r}: {told}")


@pytest.mark.parametrize("value", ["my topic", "a:b", "..", "x" * (MAX_TOPIC + 1)])
def test_a_name_that_is_no_topic_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TASTESTREAM_EMBEDDED_TOPIC", value)
    assert refusal().startswith(f"setting TASTESTREAM_EMBEDDED_TOPIC is {value!r}: ")


@pytest.mark.parametrize(
    ("name", "value", "other"),
    [
        ("DLQ_TOPIC", "user-interactions", "INTERACTIONS_TOPIC"),
        ("EMBEDDED_TOPIC", "user-recommendations", "RECOMMENDATIONS_TOPIC"),
        ("RECOMMENDATIONS_TOPIC", BAGS_CHANGELOG, "the changelog topic"),
    ],
)
def test_two_topics_with_one_name_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, other: str
) -> None:
    monkeypatch.setenv(f"TASTESTREAM_{name}", value)
    message = refusal()
    assert all(part in message for part in (name, value, other, "each topic needs its own name"))
