"""Loads a bundle again when its folder has changed or the process gets SIGHUP, while the worker goes on working.

A bundle takes the place of the one in use if it is intact and has the same embedder: only the aggregator, the categories and the
prior may differ. Every other bundle is refused with one log line, and the one in use stays. Another embedder needs a rollout,
because the bags have no embeddings of it yet.

What a folder holds is compared by the names, sizes, times and inodes of its files, every few seconds. So a symbolic link that
points to another folder counts, and so does a file that was written in place. A folder that changes between two looks is still
being copied, and is left alone until it is steady.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from model.bundle import Bundle
from model.exceptions import BundleError, TastestreamError
from streams import metrics
from streams.bundles import Bundles, load_bundle, load_bundles
from streams.settings import Settings

logger = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two looks at the folders: a new bundle is in use within two of them and the time it takes to load

Role = Literal["served", "next"]
Fingerprint = tuple[tuple[str, int, int, int, int, int], ...]
Swap = Callable[[Bundles], Awaitable[None]]


@dataclass
class _Folder:
    """The folder of one bundle."""

    role: Role
    setting: str
    path: Path
    handled: Fingerprint  # of the files that were loaded or refused
    latest: Fingerprint  # at the latest look
    refusal: str = ""  # why what it holds is not in use; empty if it is

    def due(self, now: Fingerprint) -> bool:
        """Whether to load what it holds now: it has changed, and has been steady since the look before."""
        steady, self.latest = now == self.latest, now
        return steady and now != self.handled

    def __str__(self) -> str:
        return f"{self.setting} {self.path}"


class BundleReload:
    """The bundles of a worker. A task runs `run` for as long as the worker works."""

    def __init__(self, settings: Settings, worker: str) -> None:
        """Load the bundles of the settings.

        Args:
            settings: where the bundles are. The one in the package never changes, and is not watched.
            worker: kind of the worker, for its metrics.

        Raises:
            BundleError: A bundle cannot be used. The message says why, and what to do.
        """
        self._key = settings.bundle_key
        self._worker = worker
        self._asked = asyncio.Event()
        paths: list[tuple[Role, str, Path | None]] = [
            ("served", "BUNDLE", settings.bundle),
            ("next", "NEXT_BUNDLE", settings.next_bundle),
        ]
        # First the fingerprints: what changes while the bundles are loaded is then loaded again.
        self._folders = [
            _Folder(role, setting, path, seen := fingerprint(path), seen) for role, setting, path in paths if path
        ]
        loaded = load_bundles(settings)
        self._in_use: dict[Role, Bundle] = {"served": loaded.served}
        if loaded.next is not None:
            self._in_use["next"] = loaded.next
        for role, bundle in self._in_use.items():
            metrics.bundle_swaps.labels(worker, role)  # so that they are there, and 0
            metrics.bundle_refusals.labels(worker, role)
            self._publish(role, bundle)

    @property
    def bundles(self) -> Bundles:
        """The bundles in use."""
        return Bundles(self._in_use["served"], self._in_use.get("next"))

    def ask(self) -> None:
        """Look at once, and load the bundles even if their folders seem unchanged."""
        self._asked.set()

    async def run(self, swap: Swap, interval: float = INTERVAL) -> None:
        """Look every `interval` seconds, and at once when asked to. See `look`."""
        while True:
            asked = await self._asked_within(interval)
            if asked and not self._folders:
                logger.info(
                    "nothing to load: BUNDLE and NEXT_BUNDLE are not set, and the bundle in the package never changes"
                )
            await self.look(swap, asked=asked)

    async def look(self, swap: Swap, *, asked: bool = False) -> None:
        """Load each bundle whose folder has changed and was steady since the look before.

        Args:
            swap: makes the worker use other bundles, with the same embedders. Raises BundleError if it cannot.
            asked: load all of them, whether they have changed or not, and say how that ended.
        """
        for folder in self._folders:
            now = await asyncio.to_thread(fingerprint, folder.path)
            if folder.due(now) or asked:
                await self._load(folder, now, swap, asked=asked)

    async def _asked_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._asked.wait(), seconds)
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    async def _load(self, folder: _Folder, now: Fingerprint, swap: Swap, *, asked: bool) -> None:
        """Load what a folder, whose fingerprint is `now`, holds. Use it, or say why not."""
        role, current = folder.role, self._in_use[folder.role]
        try:
            bundle = await asyncio.to_thread(self._fitting, folder, current)
            changed = bundle.manifest != current.manifest
            if changed:
                await swap(replace(self.bundles, **{role: bundle}))
        except TastestreamError as error:
            await self._refuse(folder, now, str(error), asked=asked)
            return
        except Exception as error:  # a defect of ours must not end a worker that has another bundle
            logger.exception("an unexpected error")
            await self._refuse(folder, now, repr(error), asked=asked)
            return
        folder.handled = now
        if changed:
            self._in_use[role] = bundle
            metrics.bundle_info.remove(*self._labels(role, current))
            metrics.bundle_swaps.labels(self._worker, role).inc()
            self._publish(role, bundle)
            logger.info("loaded %s: %s in place of %s", folder, _named(bundle), _named(current))
        elif asked or folder.refusal:
            logger.info("%s holds %s, which is in use already", folder, _named(current))
        folder.refusal = ""

    def _fitting(self, folder: _Folder, current: Bundle) -> Bundle:
        """Load a bundle that can take the place of the current one. Raises BundleError."""
        bundle = load_bundle(folder.path, self._key)
        if bundle.embedder_version == current.embedder_version:
            return bundle
        if any(bundle.embedder_version == other.embedder_version for other in self._in_use.values()):
            advice = "restart the workers in the order that `tastestream rollout promote` gives"
        else:
            place = "" if folder.role == "next" else "set NEXT_BUNDLE to its folder, "
            advice = f"{place}restart the workers, and run `tastestream rollout prepare`"
        raise BundleError(
            f"{_named(bundle)} has another embedder ({bundle.embedder_version}, not {current.embedder_version}), "
            f"which a running worker does not change: {advice}"
        )

    async def _refuse(self, folder: _Folder, now: Fingerprint, refusal: str, *, asked: bool) -> None:
        """Say why what a folder holds is not used, unless that is known or the folder has changed meanwhile."""
        if not asked and await asyncio.to_thread(fingerprint, folder.path) != now:
            return  # the next look decides
        metrics.bundle_refusals.labels(self._worker, folder.role).inc()
        if asked or refusal != folder.refusal:
            logger.error("refused %s, and %s stays in use: %s", folder, _named(self._in_use[folder.role]), refusal)
        folder.handled, folder.refusal = now, refusal

    def _publish(self, role: Role, bundle: Bundle) -> None:
        """Show in the metrics which bundle has a role since now."""
        metrics.bundle_info.labels(*self._labels(role, bundle)).set(1)
        metrics.bundle_since.labels(self._worker, role).set_to_current_time()

    def _labels(self, role: Role, bundle: Bundle) -> tuple[str, ...]:
        return self._worker, role, bundle.name, bundle.version, bundle.embedder_version


def fingerprint(folder: Path) -> Fingerprint:
    """What differs when the files of a folder do, without reading them. Empty if the folder cannot be read."""
    found: list[tuple[str, int, int, int, int, int]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    seen = entry.stat()
                except OSError:  # a link to nothing, or it has gone
                    found.append((entry.name, 0, 0, 0, 0, 0))
                else:
                    # The time of the last change of the inode as well: permissions may have been the trouble.
                    found.append(
                        (entry.name, seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
                    )
    except OSError:
        return ()
    return tuple(sorted(found))


def _named(bundle: Bundle) -> str:
    return f"{bundle.name} {bundle.version}"
