"""Finished runs without Kafka: a journal of the expected answers. And bundles that differ from the shipped one."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from model.bundle import DEFAULT_BUNDLE, Bundle
from model.bundle.manifest import content_checksum
from offline_training.replay.answers.bags import changed_bags
from offline_training.replay.answers.embeddings import embedded_pictures
from offline_training.replay.answers.expected import expected_answers, expected_messages
from offline_training.replay.answers.journal import JOURNAL, RUN, Journal
from offline_training.replay.answers.trends import NoTrends, daily_trends
from offline_training.replay.play.events import EventSelection, PreparedDataset
from offline_training.replay.play.messages import Naming
from streams.settings import read_settings

BEGUN = 1_700_000_000_000  # when the first answer came, milliseconds since the epoch
EVERY, TOOK = 40, 12.5  # milliseconds between two answers; latency of each


def finish(dataset: Path, out: Path, bundle: Path = DEFAULT_BUNDLE, *, dead: frozenset[int] = frozenset()) -> Path:
    """Write the folder of a run of all events. dead: places of events that became dead letters."""
    served, settings, data = Bundle.load(bundle), read_settings(), PreparedDataset(dataset)
    out.mkdir(parents=True)
    naming = Naming(data.fingerprint())
    identity = {
        "stream": naming.stream, "users": 1.0, "limit": None, "since": None, "until": None, "tag": "",
        "bundle": f"{served.name} {served.version} {served.embedder_version}", "top_k": settings.top_k,
    }  # fmt: skip
    (out / RUN).write_text(json.dumps(identity))
    pictures = sorted({item.picture for item in data.items.values() if item.picture}, key=str)
    embedded = embedded_pictures(settings, served.embedder(), pictures, data.folders, lambda _: None)
    events = data.events(EventSelection())
    changed = list(changed_bags(events, data.items, embedded, served, settings, naming=naming, dead=dead))
    labels, version = served.item_labels(), served.embedder_version
    weights = settings.type_weights
    trends = (
        daily_trends(changed, labels, embedder_version=version, type_weights=weights) if labels else NoTrends(served)
    )
    messages = expected_messages(changed, served, settings, trends=trends)
    with Journal(out / JOURNAL) as journal:
        for number, one in enumerate(expected_answers(messages, served.categories)):
            journal.write([replace(one, latency=TOOK, at=BEGUN + EVERY * number)])
    return out


def variant(folder: Path, change: Callable[[dict[str, Any]], object] | None = None, *, embedder: bytes = b"") -> Path:
    """Copy the shipped bundle with another manifest. embedder: a remark in the network that changes its hash."""
    shutil.copytree(DEFAULT_BUNDLE, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    if embedder:
        network = folder / "items.onnx"
        network.write_bytes(network.read_bytes() + b"\x32" + bytes([len(embedder)]) + embedder)  # ModelProto.doc_string
        manifest["files"]["items.onnx"] = sha256(network.read_bytes()).hexdigest()
        manifest["embedder_version"] = ""
    if change is not None:
        change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest | {"checksum": content_checksum(manifest)}))
    return folder


def other_prior(manifest: dict[str, Any]) -> None:
    """Change the name and the prior, which ranks the categories in the reverse order."""
    manifest["name"] = "reversed"
    manifest["prior"] = sorted(manifest["prior"], reverse=manifest["prior"][0] < manifest["prior"][-1])
