"""What the doctor says of this machine."""

import asyncio
import shutil
import socket
from pathlib import Path

import pytest

from streams.demo.catalogue import CATALOGUE
from streams.doctor import machine
from streams.doctor.brokers import cluster, reachable
from streams.doctor.finding import Finding, lines
from streams.doctor.picture import picture
from streams.settings import read_settings
from tests.command import Command
from tests.kafka.broker import free_port
from tests.kafka.system import picture_server

PHOTO = "pink-orchid.jpg"
HERE = "127.0.0.0/8"


def test_a_data_folder_that_cannot_be_made_is_named_and_another_one_works(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [finding] = machine.data_folder(read_settings(data_dir=tmp_path / "file" / "data"))
    assert finding.level == "fail"
    assert "TASTESTREAM_DATA_DIR" in finding.fix
    first, *_ = machine.data_folder(read_settings(data_dir=tmp_path / "deep" / "data"))
    assert first.level == "ok"
    assert not (tmp_path / "deep").exists(), "it changes nothing"


def test_a_disk_is_too_full_tight_or_large_enough() -> None:
    found = [machine.disk(Path("data"), free * machine.GB, 4 * machine.GB) for free in (0, 2, 5)]
    assert [one.level for one in found] == ["fail", "warn", "ok"]
    assert f"set TASTESTREAM_CACHE_DISK to less than {4 * machine.GB} bytes" in found[1].fix
    assert machine.disk(Path("data"), 2 * machine.GB, 2 * machine.GB).level == "ok"


def test_a_clock_before_this_version_is_wrong() -> None:
    assert [machine.clock(now).level for now in (0.0, 4e9)] == ["fail", "ok"]


async def test_a_port_of_another_program_is_named_and_another_port_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        embed, profile, _ = await machine.ports(read_settings(embed_port=taken, profile_port=free_port(), serve_port=0))
    assert (embed.level, profile.level) == ("fail", "ok")
    assert "TASTESTREAM_EMBED_PORT" in embed.fix


def test_a_bundle_that_is_not_whole_is_named_and_the_shipped_one_works(tmp_path: Path) -> None:
    broken = machine.bundles(read_settings(bundle=tmp_path))
    assert broken.level == "fail"
    assert str(tmp_path) in broken.fact
    assert machine.bundles(read_settings()).level == "ok"


async def test_a_broker_that_nobody_runs_is_named() -> None:
    [finding] = await reachable(read_settings(broker=f"127.0.0.1:{free_port()}"))
    assert finding.level == "fail"
    assert "TASTESTREAM_BROKER" in finding.fix


async def test_what_is_no_kafka_is_named() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        settings = read_settings(broker=f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        [reached] = await reachable(settings)
        admin, finding = await cluster(settings)
    assert (reached.level, admin, finding.level) == ("ok", None, "fail")
    assert "SECURITY_PROTOCOL" in finding.fix


async def test_a_picture_on_a_private_address_is_named_and_the_setting_of_the_fix_permits_it() -> None:
    with picture_server(CATALOGUE) as url:
        refused = await picture(read_settings(), f"{url}/{PHOTO}")
        assert refused.level == "fail"
        assert "TASTESTREAM_FETCH_ALLOW_NETWORKS" in refused.fix
        assert (await picture(read_settings(fetch_allow_networks=HERE), f"{url}/{PHOTO}")).level == "ok"


async def test_a_picture_that_is_missing_is_named_and_is_fetched_once_the_server_has_it(tmp_path: Path) -> None:
    settings = read_settings(fetch_allow_networks=HERE)
    with picture_server(tmp_path) as url:
        missing = await picture(settings, f"{url}/{PHOTO}")
        assert "http_status" in missing.fact
        assert missing.fix.startswith("make the server answer 200")
        shutil.copy(CATALOGUE / PHOTO, tmp_path)
        assert (await picture(settings, f"{url}/{PHOTO}")).level == "ok"


async def test_a_host_that_is_not_allowed_is_named_and_the_setting_of_the_fix_permits_it() -> None:
    with picture_server(CATALOGUE) as url:
        limited = read_settings(fetch_allow_networks=HERE, fetch_allow_hosts="shop.example")
        refused = await picture(limited, f"{url}/{PHOTO}")
        assert "add the host to TASTESTREAM_FETCH_ALLOW_HOSTS" in refused.fix
        added = read_settings(fetch_allow_networks=HERE, fetch_allow_hosts="shop.example,127.0.0.1")
        assert (await picture(added, f"{url}/{PHOTO}")).level == "ok"


def test_a_wrong_setting_is_a_finding_with_a_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = Command(monkeypatch, capsys)("doctor", TASTESTREAM_BROKR="kafka:9092")
    assert done.code == 78
    fact, fix = done.out.splitlines()
    assert fact.startswith("fail settings")
    assert "TASTESTREAM_BROKER" in fact
    assert fix.strip().startswith("fix: correct the setting")


def test_text_of_strangers_is_escaped() -> None:
    [line] = lines(Finding("topics", "ok", "\x1b[2J"))
    assert "\x1b" not in line.plain
