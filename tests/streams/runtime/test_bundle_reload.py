"""A worker takes a new bundle of the same embedder without a restart, and keeps the one it has in every other case."""

import asyncio
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from model.bundle import AGGREGATOR, ITEMS, MANIFEST, Bundle
from model.bundle.manifest import content_checksum
from model.exceptions import BundleError
from streams.bundles import Bundles
from streams.runtime.bundle_reload import BundleReload, fingerprint
from streams.settings import read_settings
from tests.model.bundle.networks import write_colours


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "colours"
    write_colours(folder)
    return folder


@pytest.fixture(scope="module")
def another(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of another embedder."""
    folder = tmp_path_factory.mktemp("bundles") / "another"
    shutil.copytree(colours, folder)
    (folder / ITEMS).unlink()
    content = json.loads((folder / MANIFEST).read_text())
    del content["files"][ITEMS]
    write_manifest(folder, content | {"version": "other", "embedder_version": ""})
    return folder


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    content["checksum"] = content_checksum(content)
    (folder / "manifest.new").write_text(json.dumps(content))
    (folder / "manifest.new").rename(folder / MANIFEST)


class Installation:
    """The folders of an installation whose `BUNDLE` is a link, and a worker that remembers its swaps."""

    def __init__(self, folder: Path, colours: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.folder = folder
        self._colours = colours
        self._caplog = caplog
        caplog.set_level(logging.INFO)
        self.link, self.next_link = folder / "current", folder / "next"
        self.swaps: list[Bundles] = []
        self.switch(self.version("1"))

    def version(self, version: str, **fields: object) -> Path:
        """Write a bundle of the same embedder."""
        folder = self.folder / version
        shutil.copytree(self._colours, folder)
        content = json.loads((folder / MANIFEST).read_text())
        write_manifest(folder, content | {"version": version} | fields)
        return folder

    def damaged(self, version: str) -> Path:
        folder = self.version(version)
        network = bytearray((folder / AGGREGATOR).read_bytes())
        network[len(network) // 2] ^= 1
        (folder / AGGREGATOR).write_bytes(network)
        return folder

    def switch(self, folder: Path, link: Path | None = None) -> None:
        """Make the link lead to another folder, atomically."""
        new = self.folder / "link.new"
        new.symlink_to(folder)
        new.replace(link or self.link)

    def opened(self, *, following: bool = False) -> BundleReload:
        following_path = str(self.next_link) if following else None
        settings = read_settings(bundle=str(self.link), next_bundle=following_path)
        return BundleReload(settings, "profile")

    async def swap(self, bundles: Bundles) -> None:
        self.swaps.append(bundles)

    async def looks(self, reload: BundleReload, count: int = 2) -> None:
        for _ in range(count):
            await reload.look(self.swap)

    @property
    def served(self) -> list[str]:
        """The versions that were swapped in."""
        return [bundles.served.version for bundles in self.swaps]

    def lines(self) -> list[str]:
        lines = [record.getMessage() for record in self._caplog.records if record.name.startswith("streams")]
        self._caplog.clear()
        return lines


@pytest.fixture
def installation(tmp_path: Path, colours: Path, caplog: pytest.LogCaptureFixture) -> Installation:
    return Installation(tmp_path, colours, caplog)


def metric(kind: str, /, role: str = "served", **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"tastestream_bundle_{kind}", {"worker": "profile", "role": role} | labels)


async def test_a_folder_that_does_not_change_is_not_loaded_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    reload = installation.opened()
    monkeypatch.setattr(Bundle, "load", None)
    await installation.looks(reload, 5)
    assert not installation.swaps
    assert not installation.lines()


async def test_a_switched_link_swaps_the_bundle_and_says_so_once(installation: Installation) -> None:
    reload = installation.opened()
    installation.switch(installation.version("2"))
    await installation.looks(reload, 5)
    assert installation.served == ["2"]
    assert reload.bundles.served.version == "2"
    assert installation.lines() == [f"loaded BUNDLE {installation.link}: colours 2 in place of colours 1"]


async def test_a_manifest_that_is_replaced_in_place_swaps_the_bundle(installation: Installation) -> None:
    reload = installation.opened()
    folder = installation.link.resolve()
    write_manifest(folder, json.loads((folder / MANIFEST).read_text()) | {"version": "2", "prior": [0.25]})
    await installation.looks(reload)
    assert installation.served == ["2"]
    assert installation.swaps[0].served.prior.tolist() == [0.25]


async def test_the_same_bundle_in_another_folder_swaps_nothing(installation: Installation) -> None:
    reload = installation.opened()
    shutil.copytree(installation.folder / "1", installation.folder / "copy")
    installation.switch(installation.folder / "copy")
    await installation.looks(reload, 4)
    assert not installation.swaps
    assert not installation.lines()


async def test_what_changed_while_the_bundles_were_first_loaded_is_loaded(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Bundle.load

    def switching(*arguments: Any) -> Bundle:
        bundle = load(*arguments)
        if bundle.version == "1":
            installation.switch(installation.version("2"))
        return bundle

    monkeypatch.setattr(Bundle, "load", switching)
    reload = installation.opened()
    assert reload.bundles.served.version == "1"
    await installation.looks(reload)
    assert installation.served == ["2"]


async def test_a_bundle_is_loaded_from_one_folder_even_if_the_link_is_switched_meanwhile(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    reload, load = installation.opened(), Bundle.load
    versions = [installation.version(str(number)) for number in range(2, 5)]

    def switching(path: Path, key: Path | None) -> Bundle:
        installation.switch(versions.pop())
        return load(path, key)

    installation.switch(versions.pop())
    monkeypatch.setattr(Bundle, "load", switching)
    await installation.looks(reload)
    assert installation.served == ["4"]
    assert str(installation.swaps[0].served.path) == os.path.realpath(installation.folder / "4")


@pytest.mark.parametrize("times", [20])
async def test_a_link_that_is_switched_many_times_ends_at_the_last_bundle(
    installation: Installation, times: int
) -> None:
    reload = installation.opened()
    versions = [installation.version(str(number)) for number in range(2, 5)]
    for number in range(times):
        installation.switch(versions[number % 3])
        await installation.looks(reload, number % 3)
    await installation.looks(reload)
    assert reload.bundles.served.version == versions[(times - 1) % 3].name
    assert installation.served[-1] == reload.bundles.served.version
    assert all("loaded" in line for line in installation.lines())


# Refusals


async def test_a_damaged_bundle_is_refused_with_one_line_that_names_the_file(installation: Installation) -> None:
    reload = installation.opened()
    damaged = installation.damaged("2")
    installation.switch(damaged)
    await installation.looks(reload, 6)
    assert not installation.swaps
    assert reload.bundles.served.version == "1"
    [line] = installation.lines()
    assert line.startswith(
        f"refused BUNDLE {installation.link}, and colours 1 stays in use: {damaged / AGGREGATOR}: expected SHA-256"
    )


async def test_a_damaged_bundle_that_is_mended_is_loaded(installation: Installation) -> None:
    reload = installation.opened()
    damaged = installation.damaged("2")
    installation.switch(damaged)
    await installation.looks(reload, 3)
    shutil.copy(installation.folder / "1" / AGGREGATOR, damaged / AGGREGATOR)
    await installation.looks(reload, 3)
    assert installation.served == ["2"]
    assert [line.split()[0] for line in installation.lines()] == ["refused", "loaded"]


async def test_the_same_refusal_is_not_said_again_when_the_folder_is_touched(installation: Installation) -> None:
    reload = installation.opened()
    damaged = installation.damaged("2")
    installation.switch(damaged)
    for _ in range(3):
        await installation.looks(reload, 3)
        (damaged / MANIFEST).touch()
    assert len(installation.lines()) == 1


async def test_a_link_that_goes_back_to_the_bundle_in_use_says_so(installation: Installation) -> None:
    reload = installation.opened()
    installation.switch(installation.damaged("2"))
    await installation.looks(reload, 3)
    installation.switch(installation.folder / "1")
    await installation.looks(reload, 3)
    assert installation.lines()[1:] == [f"BUNDLE {installation.link} holds colours 1, which is in use already"]


async def test_a_bundle_of_another_embedder_is_refused_and_the_line_names_the_rollout(
    installation: Installation, another: Path
) -> None:
    reload = installation.opened()
    installation.switch(another)
    await installation.looks(reload, 4)
    assert not installation.swaps
    [line] = installation.lines()
    assert "colours other has another embedder" in line
    assert "set NEXT_BUNDLE to its folder" in line
    assert "`tastestream rollout prepare`" in line


async def test_the_prepared_bundle_as_bundle_is_refused_and_the_line_names_the_order_of_restarts(
    installation: Installation, another: Path
) -> None:
    installation.switch(another, installation.next_link)
    reload = installation.opened(following=True)
    installation.switch(another)
    await installation.looks(reload, 4)
    [line] = installation.lines()
    assert line.startswith(f"refused BUNDLE {installation.link}, and colours 1 stays in use")
    assert "`tastestream rollout promote`" in line


@pytest.mark.parametrize("gone", ["link", "folder", "manifest", "loop"])
async def test_a_bundle_that_is_gone_leaves_the_one_in_use(installation: Installation, gone: str) -> None:
    reload = installation.opened()
    if gone == "link":
        installation.link.unlink()
    elif gone == "loop":
        installation.switch(installation.link)
    elif gone == "folder":
        shutil.rmtree(installation.folder / "1")
    else:
        (installation.folder / "1" / MANIFEST).unlink()
    await installation.looks(reload, 4)
    assert not installation.swaps
    [line] = installation.lines()
    assert "refused BUNDLE" in line
    assert "found nothing" in line


async def test_a_folder_that_is_still_being_copied_is_left_alone(installation: Installation) -> None:
    reload = installation.opened()
    complete, folder = installation.version("2"), installation.folder / "copying"
    folder.mkdir()
    installation.switch(folder)
    await installation.looks(reload, 1)
    for file in sorted(complete.iterdir(), reverse=True):  # the manifest comes early
        with (folder / file.name).open("wb") as copy:
            for part in (file.read_bytes()[:100], file.read_bytes()[100:]):
                copy.write(part)
                copy.flush()
                await installation.looks(reload, 1)
    assert not installation.swaps
    assert not installation.lines()
    await installation.looks(reload)
    assert installation.served == ["2"]


async def test_a_copy_that_stops_half_way_is_refused_and_loaded_once_it_is_complete(installation: Installation) -> None:
    reload = installation.opened()
    complete, folder = installation.version("2"), installation.folder / "copying"
    folder.mkdir()
    installation.switch(folder)
    shutil.copy(complete / MANIFEST, folder)
    await installation.looks(reload, 4)
    for file in complete.iterdir():
        shutil.copy(file, folder)
    await installation.looks(reload, 4)
    assert installation.served == ["2"]
    assert [line.split()[0] for line in installation.lines()] == ["refused", "loaded"]


async def test_a_bundle_that_changes_while_it_is_loaded_is_not_refused(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    reload, load = installation.opened(), Bundle.load
    damaged = installation.damaged("2")
    installation.switch(damaged)

    def mending(path: Path, key: Path | None) -> Bundle:
        try:
            return load(path, key)
        finally:
            shutil.copy(installation.folder / "1" / AGGREGATOR, damaged / AGGREGATOR)

    monkeypatch.setattr(Bundle, "load", mending)
    await installation.looks(reload, 4)
    assert installation.served == ["2"]
    assert [line.split()[0] for line in installation.lines()] == ["loaded"]


@pytest.mark.parametrize("error", [BundleError("the aggregator cannot be opened"), ZeroDivisionError("a defect")])
async def test_a_worker_that_cannot_take_a_bundle_keeps_the_one_in_use(
    installation: Installation, error: Exception
) -> None:
    reload = installation.opened()

    async def fail(_: Bundles) -> None:
        raise error

    installation.switch(installation.version("2"))
    for _ in range(4):
        await reload.look(fail)
    assert reload.bundles.served.version == "1"
    refused = [line for line in installation.lines() if line.startswith("refused")]
    assert len(refused) == 1
    assert str(error) in refused[0]


async def test_a_bundle_without_the_signature_that_a_key_asks_for_is_refused(installation: Installation) -> None:
    pytest.importorskip("cryptography", reason="needs the extra `sign`")
    reload = installation.opened()
    reload._key = installation.folder / "public.pem"
    installation.switch(installation.version("2"))
    await installation.looks(reload, 3)
    assert not installation.swaps
    assert len(installation.lines()) == 1


# Two bundles


async def test_each_of_two_bundles_is_swapped_by_itself(installation: Installation) -> None:
    installation.switch(installation.version("next-1"), installation.next_link)
    reload = installation.opened(following=True)
    installation.switch(installation.damaged("2"))
    installation.switch(installation.version("next-2"), installation.next_link)
    await installation.looks(reload, 3)
    assert [(swap.served.version, swap.next and swap.next.version) for swap in installation.swaps] == [("1", "next-2")]
    installation.switch(installation.version("3"))
    await installation.looks(reload, 3)
    assert (reload.bundles.served.version, reload.bundles.next and reload.bundles.next.version) == ("3", "next-2")


async def test_a_next_bundle_of_a_third_embedder_is_refused(installation: Installation, another: Path) -> None:
    installation.switch(installation.version("next-1"), installation.next_link)
    reload = installation.opened(following=True)
    installation.switch(another, installation.next_link)
    await installation.looks(reload, 3)
    [line] = installation.lines()
    assert line.startswith(f"refused NEXT_BUNDLE {installation.next_link}, and colours next-1 stays in use")
    assert "set NEXT_BUNDLE" not in line
    assert "`tastestream rollout prepare`" in line


def test_a_next_bundle_that_cannot_be_used_at_a_start_is_named(installation: Installation) -> None:
    installation.switch(installation.damaged("2"), installation.next_link)
    with pytest.raises(BundleError) as refused:
        installation.opened(following=True)
    assert str(refused.value).startswith(f"NEXT_BUNDLE: {installation.folder / '2' / AGGREGATOR}: expected SHA-256")


def test_a_bundle_that_cannot_be_used_at_a_start_is_named(installation: Installation) -> None:
    installation.switch(installation.folder / "nowhere")
    with pytest.raises(BundleError) as refused:
        installation.opened()
    assert str(refused.value).startswith(f"BUNDLE: {installation.folder / 'nowhere'}: expected a bundle's folder")


# Being asked


async def test_a_worker_that_is_asked_says_that_nothing_has_changed(installation: Installation) -> None:
    reload = installation.opened()
    await reload.look(installation.swap, asked=True)
    assert installation.lines() == [f"BUNDLE {installation.link} holds colours 1, which is in use already"]


async def test_a_worker_that_is_asked_loads_a_change_at_once_and_repeats_a_refusal(installation: Installation) -> None:
    reload = installation.opened()
    installation.switch(installation.version("2"))
    await reload.look(installation.swap, asked=True)
    assert installation.served == ["2"]
    installation.switch(installation.damaged("3"))
    for _ in range(2):
        await reload.look(installation.swap, asked=True)
    assert [line.split()[0] for line in installation.lines()] == ["loaded", "refused", "refused"]


async def test_asking_ends_the_pause_between_two_looks(installation: Installation) -> None:
    reload, swapped = installation.opened(), asyncio.Event()

    async def swap(bundles: Bundles) -> None:
        await installation.swap(bundles)
        swapped.set()

    running = asyncio.create_task(reload.run(swap, interval=3600))
    for version in ("2", "3"):
        installation.switch(installation.version(version))
        reload.ask()
        await asyncio.wait_for(swapped.wait(), 60)
        swapped.clear()
    assert installation.served == ["2", "3"]
    running.cancel()


async def test_a_change_is_found_without_being_asked(installation: Installation) -> None:
    reload, swapped = installation.opened(), asyncio.Event()

    async def swap(_: Bundles) -> None:
        swapped.set()

    running = asyncio.create_task(reload.run(swap, interval=0.01))
    installation.switch(installation.version("2"))
    await asyncio.wait_for(swapped.wait(), 60)
    running.cancel()


async def test_asking_for_the_bundle_in_the_package_says_that_it_never_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    reload = BundleReload(read_settings(), "profile")
    looked = asyncio.Event()
    reload.look = _telling(looked)  # pyright: ignore[reportAttributeAccessIssue]
    reload.ask()
    running = asyncio.create_task(reload.run(_no_swap))
    await asyncio.wait_for(looked.wait(), 60)
    assert [record.getMessage() for record in caplog.records if "nothing to load" in record.getMessage()]
    running.cancel()


def _telling(looked: asyncio.Event) -> Any:
    async def look(*_: object, asked: bool) -> None:
        assert asked
        looked.set()

    return look


async def _no_swap(_: Bundles) -> None:
    pytest.fail("there is nothing to swap")


# Metrics


async def test_the_metrics_say_which_bundle_is_in_use_since_when_and_what_happened(installation: Installation) -> None:
    reload = installation.opened()
    swaps, refusals = metric("swaps_total") or 0, metric("refusals_total") or 0
    names = {"name": "colours", "embedder": reload.bundles.served.embedder_version}
    since = metric("since_seconds") or 0
    assert metric("info", version="1", **names) == 1
    assert since > 1.7e9

    installation.switch(installation.version("2"))
    await installation.looks(reload, 3)
    installation.switch(installation.damaged("broken"))
    await installation.looks(reload, 3)
    assert metric("info", version="1", **names) is None
    assert metric("info", version="2", **names) == 1
    assert metric("info", version="broken", **names) is None
    assert (metric("since_seconds") or 0) > since
    assert metric("swaps_total") == swaps + 1
    assert metric("refusals_total") == refusals + 1


# Fingerprints


def test_a_fingerprint_differs_when_a_file_does(tmp_path: Path) -> None:
    seen = {fingerprint(tmp_path / "nowhere"), fingerprint(tmp_path)}
    assert seen == {()}
    file = tmp_path / "file"
    steps = [
        lambda: file.write_text("abc"),
        lambda: file.write_text("abcd"),
        lambda: os.utime(file, (1, 1)),
        lambda: file.chmod(0o600),
        lambda: (tmp_path / "other").symlink_to(tmp_path / "third"),
        lambda: (tmp_path / "other").write_text("abcd"),
    ]
    for number, step in enumerate(steps, 2):
        step()
        seen.add(fingerprint(tmp_path))
        assert len(seen) == number
        assert fingerprint(tmp_path) in seen
