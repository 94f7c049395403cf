"""How brokers are written, and which message a wrong one gets."""

from pathlib import Path

import pytest

from streams.settings import read_settings
from tests.streams.settings.test_settings import refusal, toml


def test_brokers_are_written_with_and_without_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_BROKER", "kafka://a:9092, b:9093")
    assert read_settings().bootstrap_servers == ["a:9092", "b:9093"]


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("h", ["h:9092"]),
        ("kafka://h:9093", ["h:9093"]),
        ("kafka://h:9093/", ["h:9093"]),
        ("PLAINTEXT://h:9092,PLAINTEXT://g:9092", ["h:9092", "g:9092"]),
        ('["h:1", "g:2"]', ["h:1", "g:2"]),
        ("[::1]:9093", ["[::1]:9093"]),
        ("[2001:db8::1]", ["[2001:db8::1]:9092"]),
        ("10.0.0.1:1,kafka_2:2,", ["10.0.0.1:1", "kafka_2:2"]),
    ],
)
def test_brokers_are_understood(monkeypatch: pytest.MonkeyPatch, text: str, servers: list[str]) -> None:
    monkeypatch.setenv("TASTESTREAM_BROKER", text)
    settings = read_settings()
    assert (settings.bootstrap_servers, settings.security_protocol) == (servers, "PLAINTEXT")


def test_brokers_may_be_a_list_in_toml(folder: Path) -> None:
    assert read_settings(toml(folder, 'broker = ["a:1", "b:2"]\n')).bootstrap_servers == ["a:1", "b:2"]


@pytest.mark.parametrize(
    ("text", "protocol"),
    [
        ("SASL_SSL://h:9093", "SASL_SSL"),
        ("sasl_plaintext://h:9093", "SASL_PLAINTEXT"),
        ("ssl://h:9093", "SSL"),
        ("kafka+ssl://h:9093,g:9093", "SSL"),
    ],
)
def test_the_scheme_of_a_broker_sets_the_security_protocol(
    monkeypatch: pytest.MonkeyPatch, text: str, protocol: str
) -> None:
    monkeypatch.setenv("TASTESTREAM_BROKER", text)
    monkeypatch.setenv("TASTESTREAM_SASL_USERNAME", "ann")
    assert read_settings().security_protocol == protocol
    monkeypatch.setenv("TASTESTREAM_SECURITY_PROTOCOL", protocol)
    assert read_settings().security_protocol == protocol
    assert read_settings().bootstrap_servers[0] == "h:9093"


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("http://h:9092", "the scheme http:// is unknown; write host:port, or one of kafka://, "),
        ("h:0", "'0' is not a port of h"),
        ("h:65536", "'65536' is not a port of h"),
        ("h:kafka", "'kafka' is not a port of h"),
        ("h:", "'' is not a port of h"),
        ("h:9092/topic", "'9092/topic' is not a port of h"),
        ("a:1 b:2", "'a:1 b:2' is not host:port; separate brokers with commas"),
        ("a b", "'a b' is not a host name"),
        ("::1:9092", "write an IPv6 address in brackets, such as [::1]:9092"),
        ("[::1:9092", "is not an IPv6 address and port"),
        ("[h]:9092", "is not an IPv6 address and port"),
        ("kafka://", "a broker has no host"),
        (",", "at least one broker is needed"),
        ('["a:1"', "not valid JSON"),
    ],
)
def test_a_broker_that_cannot_be_understood_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, fact: str) -> None:
    monkeypatch.setenv("TASTESTREAM_BROKER", text)
    message = refusal()
    assert message.startswith("setting TASTESTREAM_BROKER: ")
    assert fact in message


def test_a_password_in_a_broker_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_BROKER", "SASL_SSL://ann:hush-hush@h:9092")
    message = refusal()
    assert "SASL_USERNAME and SASL_PASSWORD" in message
    assert "hush" not in message


def test_a_scheme_that_contradicts_the_security_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_BROKER", "SSL://h:9092")
    monkeypatch.setenv("TASTESTREAM_SECURITY_PROTOCOL", "PLAINTEXT")
    assert refusal() == "settings: BROKER says SSL:// but SECURITY_PROTOCOL is PLAINTEXT; leave one of them out"


def test_brokers_with_different_protocols_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_BROKER", "SSL://h:9093,PLAINTEXT://h:9092")
    assert "SSL and by PLAINTEXT" in refusal()
