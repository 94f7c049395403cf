"""Where a setting comes from, which source wins, how a value is written, and which message a wrong one gets."""

from importlib.metadata import version
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from streams.exceptions import StartupError
from streams.settings import Settings, read_settings


def toml(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def refusal(config: Path | None = None) -> str:
    with pytest.raises(StartupError) as refused:
        read_settings(config)
    message = str(refused.value)
    assert "\n" not in message
    assert "Value error" not in message
    return message


# Which source wins


def test_environment_beats_dotenv_beats_toml_beats_default(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = toml(folder, 'broker = "toml:1"\ntop_k = 5\nmax_slots = 500\n')
    (folder / ".env").write_text("TASTESTREAM_BROKER=dotenv:1\nTASTESTREAM_TOP_K=6\n")
    monkeypatch.setenv("TASTESTREAM_BROKER", "environment:1")
    settings = read_settings(config)
    assert (settings.broker, settings.top_k, settings.max_slots, settings.bag_size) == ("environment:1", 6, 500, 64)


def test_an_argument_beats_all_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_TOP_K", "6")
    assert read_settings(top_k=7).top_k == 7


def test_variables_of_other_programs_in_dotenv_are_ignored(folder: Path) -> None:
    (folder / ".env").write_text("DATABASE_URL=x\nTASTESTREAM_TOP_K=6\n")
    assert read_settings().top_k == 6


def test_settings_are_immutable() -> None:
    settings = read_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.top_k = 3  # pyright: ignore[reportAttributeAccessIssue]


# How values are written


def test_networks_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_FETCH_ALLOW_NETWORKS", "127.0.0.0/8, fd00::/8,")
    assert read_settings().fetch_allow_networks == (ip_network("127.0.0.0/8"), ip_network("fd00::/8"))


def test_networks_may_be_a_list_in_toml(folder: Path) -> None:
    config = toml(folder, 'fetch_allow_networks = ["10.0.0.0/8"]\n[type_weights]\npurchase = 1\ncart = 0.5\nview = 0\n')
    settings = read_settings(config)
    assert settings.fetch_allow_networks == (ip_network("10.0.0.0/8"),)
    assert settings.type_weights == {"purchase": 1, "cart": 0.5, "view": 0}


def test_hosts_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_FETCH_ALLOW_HOSTS", "CDN.example, *.images.example,")
    assert read_settings().fetch_allow_hosts == ("cdn.example", ".images.example")


def test_ports_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings().fetch_ports == (80, 443)
    monkeypatch.setenv("TASTESTREAM_FETCH_PORTS", "443, 8443,")
    assert read_settings().fetch_ports == (443, 8443)


def test_hosts_and_ports_may_be_lists_in_toml(folder: Path) -> None:
    settings = read_settings(toml(folder, 'fetch_allow_hosts = [".Images.example"]\nfetch_ports = [8443]\n'))
    assert (settings.fetch_allow_hosts, settings.fetch_ports) == ((".images.example",), (8443,))


def test_pictures_come_from_any_host_and_through_no_proxy_by_default() -> None:
    settings = read_settings()
    assert (settings.fetch_allow_hosts, settings.fetch_allow_networks, settings.fetch_proxy) == ((), (), "")


def test_the_default_user_agent_is_name_and_version() -> None:
    assert read_settings().fetch_user_agent == f"tastestream/{version('tastestream')} (product pictures)"


def test_weights_are_written_as_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_TYPE_WEIGHTS", "purchase=1, cart=.5,view=0")
    assert read_settings().type_weights == {"purchase": 1.0, "cart": 0.5, "view": 0.0}


@pytest.mark.parametrize("text", ["", "none"])
def test_half_life_may_be_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TASTESTREAM_HALF_LIFE", text)
    assert read_settings().half_life is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("FETCH_ALLOW_NETWORKS", '["127.0.0.0/8", "fd00::/8"]', (ip_network("127.0.0.0/8"), ip_network("fd00::/8"))),
        ("FETCH_ALLOW_HOSTS", '["CDN.example"]', ("cdn.example",)),
        ("FETCH_ALLOW_HOSTS", "[]", ()),
        ("FETCH_PORTS", "[443, 8443]", (443, 8443)),
        ("FETCH_PORTS", '["443"]', (443,)),
        ("TYPE_WEIGHTS", '{"purchase": 1, "cart": 0.5, "view": 0}', {"purchase": 1.0, "cart": 0.5, "view": 0.0}),
    ],
)
def test_lists_and_weights_may_be_json(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    monkeypatch.setenv(f"TASTESTREAM_{name}", text)
    assert getattr(read_settings(), name.lower()) == value


@pytest.mark.parametrize("written", ["{}", '"{}"', "'{}'", ' "{}" ', "{}\r"])
@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("BROKER", "a:1,b:2", "a:1,b:2"),
        ("TOP_K", "7", 7),
        ("IDEMPOTENCE", "no", False),
        ("LOG_LEVEL", "DEBUG", "DEBUG"),
        ("BUNDLE", "/a bundle", Path("/a bundle")),
        ("FETCH_PORTS", "443, 8443", (443, 8443)),
    ],
)
def test_quotes_and_white_space_around_a_value_do_not_count(
    monkeypatch: pytest.MonkeyPatch, written: str, name: str, text: str, value: object
) -> None:
    monkeypatch.setenv(f"TASTESTREAM_{name}", written.format(text))
    assert getattr(read_settings(), name.lower()) == value


@pytest.mark.parametrize("text", ["", '""', " "])
@pytest.mark.parametrize("name", ["TOP_K", "SESSION_TIMEOUT", "HALF_LIFE", "BUNDLE", "TLS_CA_FILE", "DATA_DIR"])
def test_an_empty_number_or_path_is_unset(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"TASTESTREAM_{name}", text)
    assert getattr(read_settings(), name.lower()) == Settings.model_fields[name.lower()].default


def test_dotenv_may_begin_with_a_byte_order_mark(folder: Path) -> None:
    (folder / ".env").write_bytes(b"\xef\xbb\xbfTASTESTREAM_TOP_K=6\r\n")
    assert read_settings().top_k == 6


# Unknown names


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("TASTESTREAM_BROKRE", "TASTESTREAM_BROKER"),
        ("TASTESTREAM_TOPK", "TASTESTREAM_TOP_K"),
        ("tastestream_bundel", "TASTESTREAM_BUNDLE"),
    ],
)
@pytest.mark.parametrize("where", ["environment", ".env"])
def test_an_unknown_name_is_refused_with_the_nearest_known_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: str, name: str, nearest: str
) -> None:
    if where == ".env":
        (folder / ".env").write_text(f"{name}=1\n")
    else:
        monkeypatch.setenv(name, "1")
    assert refusal().startswith(f"{where}: unknown setting {name} (did you mean {nearest}?); ")


def test_an_unknown_name_that_is_like_no_other_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_ZZZ", "hush")
    assert refusal() == (
        "environment: unknown setting TASTESTREAM_ZZZ; `tastestream settings --defaults` lists all settings"
    )


@pytest.mark.parametrize("name", ["TOP_K", "TASTESTREAM_TOP_K"])
def test_a_name_in_the_file_is_lower_case_and_has_no_prefix(folder: Path, name: str) -> None:
    assert f"unknown setting {name} (did you mean top_k?)" in refusal(toml(folder, f"{name} = 5\n"))


def test_what_kubernetes_sets_for_a_service_called_tastestream_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "6067",
        "SERVICE_PORT_WEB": "6067",
        "PORT": "tcp://10.0.0.1:6067",
        "PORT_6067_TCP": "tcp://10.0.0.1:6067",
        "PORT_6067_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(f"TASTESTREAM_{name}", value)
    assert read_settings()
    for name in ("EMBED_PORT", "SERVE_PORT"):
        monkeypatch.setenv(f"TASTESTREAM_{name}", "tcp://10.0.0.1:6066")
        assert "enableServiceLinks: false" in refusal()
        monkeypatch.delenv(f"TASTESTREAM_{name}")


# Messages


@pytest.mark.parametrize(
    ("name", "value", "fact"),
    [
        ("TOP_K", "ten", "valid integer"),
        ("TOP_K", "0", "greater than or equal to 1"),
        ("SESSION_TIMEOUT", "-1", "greater than or equal to 1"),
        ("EMBED_PORT", "70000", "less than or equal to 65535"),
        ("LOG_LEVEL", "LOUD", "'DEBUG'"),
        (
            "FETCH_ALLOW_NETWORKS",
            "10.0.0.0/8,10.0.0.0/33",
            "'10.0.0.0/33' does not appear to be an IPv4 or IPv6 network",
        ),
        ("FETCH_ALLOW_NETWORKS", "10.0.0.1/8", "10.0.0.1/8 has host bits set"),
        ("FETCH_ALLOW_NETWORKS", "localhost", "'localhost' does not appear to be an IPv4 or IPv6 network"),
        (
            "FETCH_ALLOW_HOSTS",
            "cdn.example,http://a.example/",
            "'http://a.example/' is not a host name; write cdn.example",
        ),
        ("FETCH_ALLOW_HOSTS", "*", "'*' is not a host name"),
        ("FETCH_PORTS", "80,0", "0 is not a port, which is between 1 and 65535"),
        ("FETCH_PORTS", "65536", "65536 is not a port"),
        ("FETCH_PORTS", ",", "at least one port is needed"),
        ("FETCH_USER_AGENT", " ", "printable ASCII, and not empty"),
        ("FETCH_USER_AGENT", "a\r\nX: y", "printable ASCII, and not empty"),
        ("FETCH_USER_AGENT", "späher", "printable ASCII, and not empty"),
        ("HALF_LIFE", "-5", "greater than 0"),
        (
            "SERVE_ORIGINS",
            "https://shop.example,shop.example",
            "shop.example is not a site; expected https://shop.example",
        ),
        ("SERVE_ORIGINS", "https://shop.example/", "https://shop.example/ is not a site"),
        ("SERVE_ORIGINS", "*", "* is not a site"),
        ("SERVE_ORIGINS", "null", "null is not a site"),
        ("SECURITY_PROTOCOL", "TLS", "'PLAINTEXT'"),
    ],
)
def test_a_wrong_value_is_named_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, fact: str
) -> None:
    monkeypatch.setenv(f"TASTESTREAM_{name}", value)
    message = refusal()
    assert message.startswith(f"setting TASTESTREAM_{name} is {value!r}: ")
    assert fact in message


@pytest.mark.parametrize(
    ("weights", "fact"),
    [
        ("purchase=1", "a weight is missing for cart, view"),
        ("purchase=2,cart=.6,view=.3", "the weight of purchase is 2.0, but weights are between 0 and 1"),
        ("purchase=1,cart=.6,view=much", "valid number"),
        ("purchase=1,cart=.6,view=.3,stare=1", "'purchase', 'cart' or 'view'"),
    ],
)
def test_wrong_weights_are_named(monkeypatch: pytest.MonkeyPatch, weights: str, fact: str) -> None:
    monkeypatch.setenv("TASTESTREAM_TYPE_WEIGHTS", weights)
    message = refusal()
    assert message.startswith("setting TASTESTREAM_TYPE_WEIGHTS is ")
    assert fact in message


def test_settings_that_contradict_each_other_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_BAG_SIZE", "200")
    assert refusal() == "settings: BAG_SIZE (200) cannot be above MAX_SLOTS (128)"


def test_sasl_without_a_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_SECURITY_PROTOCOL", "SASL_SSL")
    assert "SASL_USERNAME and SASL_PASSWORD are needed" in refusal()


@pytest.mark.parametrize("name", ["TLS_CA_FILE", "TLS_CERT_FILE"])
def test_a_missing_tls_file_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"TASTESTREAM_{name}", "/nowhere.pem")
    assert refusal() == f"settings: {name} is /nowhere.pem, but there is no such file"


def test_a_tls_file_that_is_not_pem_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_BROKER", "ssl://h:9093")
    monkeypatch.setenv("TASTESTREAM_TLS_CA_FILE", __file__)
    message = refusal()
    assert message.startswith("settings: the TLS files cannot be loaded")
    assert message.endswith(__file__)


def test_a_tls_file_that_cannot_be_looked_at_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/" + 300 * "x"  # longer than a file name may be; a folder that may not be read is another case
    monkeypatch.setenv("TASTESTREAM_TLS_KEY_FILE", path)
    monkeypatch.setenv("TASTESTREAM_TLS_CERT_FILE", path)
    message = refusal()
    assert message.startswith("settings: the TLS files cannot be loaded")
    assert message.endswith(f"{path}, {path}")


def test_a_key_without_a_certificate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_TLS_KEY_FILE", __file__)
    assert refusal() == "settings: TLS_KEY_FILE is set, so TLS_CERT_FILE is needed"


def test_infinity_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_SESSION_TIMEOUT", "inf")
    assert "finite number" in refusal()


def test_every_description_is_made_of_sentences() -> None:
    for name, field in Settings.model_fields.items():
        description = field.description or ""
        assert description[:1].isupper() and description.endswith("."), name


def test_a_password_is_never_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_SASL_PASSWORD", "hush-hush")
    assert "hush" not in repr(read_settings())
    monkeypatch.delenv("TASTESTREAM_SASL_PASSWORD")
    message = refusal(toml(folder, "sasl_password = 31337\n"))
    assert "TASTESTREAM_SASL_PASSWORD" in message
    assert "31337" not in message


def test_a_port_that_is_not_a_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_FETCH_PORTS", "80,http")
    assert refusal().startswith("setting TASTESTREAM_FETCH_PORTS is 'http': Input should be a valid integer")


@pytest.mark.parametrize("value", ["proxy:3128", "https://proxy:3128", "http://proxy:3128/path"])
def test_a_proxy_that_is_not_host_and_port_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TASTESTREAM_FETCH_PROXY", value)
    assert refusal() == "setting TASTESTREAM_FETCH_PROXY: expected http://host:port"


def test_a_password_in_a_proxy_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_FETCH_PROXY", "http://ann:hush-hush@proxy:3128")
    message = refusal()
    assert (
        message == "setting TASTESTREAM_FETCH_PROXY: the URL contains a user name or password, which is not supported"
    )


# The files


def test_an_unknown_name_in_the_file_is_refused(folder: Path) -> None:
    config = toml(folder, "top_k = 5\nbag_sice = 3\n")
    assert refusal(config) == (
        f"--config {config}: unknown setting bag_sice (did you mean bag_size?); "
        "`tastestream settings --defaults` lists all settings"
    )


def test_a_missing_file_is_refused(folder: Path) -> None:
    assert refusal(folder / "none.toml") == f"--config {folder / 'none.toml'}: there is no such file"


@pytest.mark.parametrize("content", [b"top_k: 5\n", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_refused(folder: Path, content: bytes) -> None:
    (folder / "settings.toml").write_bytes(content)
    assert "not a TOML file" in refusal(folder / "settings.toml")


def test_a_dotenv_that_is_not_text_is_refused(folder: Path) -> None:
    (folder / ".env").write_bytes(b"\xff\xfe")
    assert "not a UTF-8 file" in refusal()


def test_every_default_is_valid() -> None:
    defaults = read_settings().model_dump()
    assert Settings.model_validate(defaults).model_dump() == defaults


def test_no_two_areas_have_a_field_or_a_rule_of_the_same_name() -> None:
    names = [
        name for area in Settings.__bases__ for name in {*vars(area), *area.__annotations__} - {*vars(BaseSettings)}
    ]
    assert len(names) == len(set(names)) >= len(Settings.model_fields)


def test_an_event_may_be_five_minutes_ahead_of_the_clock() -> None:
    assert read_settings().max_future == 300


@pytest.mark.parametrize(
    ("date", "earliest"), [("1990-01-01", 631_152_000_000), ("1970-01-01", 0), ("2014-05-01", 1_398_902_400_000)]
)
def test_the_earliest_date_begins_at_midnight_utc(date: str, earliest: int) -> None:
    assert read_settings(earliest_date=date).earliest == earliest


@pytest.mark.parametrize("date", ["1969-12-31", "yesterday", "1990-13-01"])
def test_an_earliest_date_that_is_none_is_refused(date: str) -> None:
    with pytest.raises(StartupError, match="EARLIEST_DATE"):
        read_settings(earliest_date=date)
