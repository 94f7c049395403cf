"""`tastestream train embed` with pictures at URLs, against a real picture server: what is fetched, refused, kept and retried."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `train`")
pa = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

from model.bundle import Bundle  # noqa: E402
from model.embedder import Embedder, SplitEmbedder  # noqa: E402
from model.preprocessing import decode_picture  # noqa: E402
from offline_training.datasets.prepare import ITEMS  # noqa: E402
from offline_training.datasets.records import DatasetError  # noqa: E402
from offline_training.tasks import catalogue  # noqa: E402
from offline_training.tasks.catalogue import Outcome, embed_catalogue, read_embeddings  # noqa: E402
from tests.command import Command, Done  # noqa: E402
from tests.model.bundle.networks import write_colours  # noqa: E402
from tests.offline_training.silent import step  # noqa: E402
from tests.streams.warm.shop import Shop, open_shop, wait_until  # noqa: E402

REPOSITORY = Path(__file__).parents[3]
IN_FLIGHT = 8
SETTINGS = {
    "TASTESTREAM_FETCH_ALLOW_NETWORKS": "127.0.0.0/8",
    "TASTESTREAM_FETCH_ATTEMPTS": "1",
    "TASTESTREAM_EMBED_IN_FLIGHT": str(IN_FLIGHT),
}


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


@pytest.fixture
def embed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Done]:
    """The command in this process, on the data set in the current folder."""
    monkeypatch.chdir(tmp_path)
    command = Command(monkeypatch, capsys)

    def run(*options: str, **others: str) -> Done:
        return command("train", "embed", ".", "--out", "found.npz", *options, **{**SETTINGS, **others})

    return run


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    backbone = Bundle.load().backbone()
    return SplitEmbedder(backbone, None, backbone.version)


def write(folder: Path, pictures: dict[str, str]) -> None:
    """Write the part of a data set that embedding reads."""
    table = {"item": list(pictures), "image": list(pictures.values()), "categories": [["a"]] * len(pictures)}
    pq.write_table(pa.table(table), folder / ITEMS)


def found(folder: Path) -> dict[str, np.ndarray]:
    return dict(zip(*read_embeddings(folder / "found.npz"), strict=True))


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 30, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_urls_and_files_are_embedded_and_each_failure_is_reported_with_its_reason(
    embed: Callable[..., Done], shop: Shop, tmp_path: Path, embedder: Embedder
) -> None:
    (tmp_path / "here.png").write_bytes(png(7))
    pictures = {
        "far": f"{shop.url}/1", "same": f"{shop.url}/1", "other": f"{shop.url}/2", "here": str(tmp_path / "here.png"),
        "gone": f"{shop.url}/gone", "text": f"{shop.url}/text", "inside": "http://10.0.0.1/1.jpg",
        "file": f"file://{tmp_path}/here.png", "data": "data:image/png;base64,iVBORw0KGgo=", "none": "",
        "nowhere": str(tmp_path / "nowhere.png"),
    }  # fmt: skip
    write(tmp_path, pictures)
    done = embed()
    assert done.code == 0, done.err
    assert shop.asked == {"1": 1, "2": 1, "gone": 1, "text": 1}
    for reason in (
        f"http_status 1, the first: gone: image_url '{shop.url}/gone': the server answered with status 404",
        "not_a_picture 1, the first: text: ",
        "address_not_public 1, the first: inside: ",
        "url_scheme 2, the first: ",
        "no_picture 1, the first: none",
        "missing_picture 1, the first: nowhere: ",
    ):
        assert reason in done.err
    vectors = found(tmp_path)
    assert vectors.keys() == {"far", "same", "other", "here"}
    for item, data in (("far", shop.picture), ("same", shop.picture), ("here", png(7))):
        [direct] = embedder.embed(decode_picture(data, embedder.image_size)[None])
        assert np.allclose(vectors[item], direct, atol=1e-4), item


def test_pictures_without_finite_features_are_left_out(embed: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    bundle = write_colours(tmp_path / "colours")
    file = io.BytesIO()
    Image.new("RGB", (224, 224)).save(file, "PNG")
    shop.picture = file.getvalue()
    (tmp_path / "black.png").write_bytes(file.getvalue())
    (tmp_path / "good.png").write_bytes(png(7))
    paths = {name: str(tmp_path / f"{name}.png") for name in ("black", "good")}
    write(tmp_path, {**paths, "far": f"{shop.url}/1"})
    done = embed("--bundle", str(bundle.path))
    assert done.code == 0, done.err
    assert "invalid_embedding 2, the first: black: " in done.err
    assert found(tmp_path).keys() == {"good"}


def test_a_rerun_fetches_only_what_failed(embed: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    pictures = {"1": f"{shop.url}/1", "2": f"{shop.url}/2", "gone": f"{shop.url}/gone", "text": f"{shop.url}/text"}
    write(tmp_path, pictures)
    embed()
    first = found(tmp_path)
    shop.asked.clear()
    done = embed()
    assert (done.code, shop.asked) == (0, {"gone": 1, "text": 1})
    shop.asked.clear()
    write(tmp_path, pictures | {"gone": f"{shop.url}/3"})
    embed()
    assert shop.asked == {"3": 1, "text": 1}
    assert found(tmp_path).keys() == {"1", "2", "gone"}
    assert all(np.array_equal(found(tmp_path)[item], first[item]) for item in first)


def test_the_fetch_settings_of_the_embed_worker_apply(embed: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    write(tmp_path, {"1": f"{shop.url}/1"})
    for settings, reason in (
        ({"TASTESTREAM_FETCH_ALLOW_NETWORKS": ""}, "address_not_public 1"),
        ({"TASTESTREAM_FETCH_MAX_BYTES": "1024"}, "picture_too_many_bytes 1"),
        ({"TASTESTREAM_FETCH_MAX_PIXELS": "1024", "TASTESTREAM_FETCH_MAX_BYTES": "1025"}, "picture_too_many_bytes 1"),
        ({"TASTESTREAM_FETCH_ALLOW_HOSTS": "cdn.example"}, "host_not_allowed 1"),
    ):
        done = embed(**settings)
        assert done.code == 1
        assert "none of its 1 pictures could be embedded" in done.err
        assert reason in done.err
    shop.broken = True
    shop.asked.clear()
    assert "http_status 1" in embed(TASTESTREAM_FETCH_ATTEMPTS="2").err
    assert shop.asked == {"1": 2}
    assert "setting TASTESTREAM_FETCH_ATTEMPTS is '0'" in embed(TASTESTREAM_FETCH_ATTEMPTS="0").err
    assert not (tmp_path / "found.npz").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_work_and_the_next_run_continues(
    embed: Callable[..., Done], shop: Shop, tmp_path: Path, number: signal.Signals
) -> None:
    write(tmp_path, {url: url for url in shop.urls(40)})
    shop.patience = 20
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASTESTREAM_")}
    with subprocess.Popen(
        [sys.executable, "-m", "streams", "train", "embed", ".", "--out", "found.npz"],
        cwd=tmp_path,
        env={**inherited, **SETTINGS, "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 -- a shell's background jobs ignore it
    ) as process:
        try:
            wait_until(lambda: shop.asked.total() >= 20 + IN_FLIGHT)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    kept = len(found(tmp_path))
    assert 0 < kept <= 20, "some of those that were made may not have been noted yet"
    shop.patience = 1_000_000
    shop.asked.clear()
    assert embed().code == 0
    assert shop.asked.total() == 40 - kept
    assert found(tmp_path).keys() == set(shop.urls(40))


def test_what_is_done_is_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: Embedder) -> None:
    """So that a process that is killed has lost a minute at most."""
    monkeypatch.setattr(catalogue, "WRITE_EVERY", 0.0)
    monkeypatch.setattr(catalogue, "WRITE_SHARE", 0)
    seen: list[int] = []

    def by_url(urls: Sequence[str]) -> Iterator[Outcome]:
        for url in urls:
            seen.append(len(read_embeddings(out)[0]) if out.exists() else 0)
            yield url, np.zeros(embedder.embedding_size, np.float32)

    out = tmp_path / "found.npz"
    write(tmp_path, {name: f"http://shop.example/{name}" for name in "abcd"})
    embed_catalogue(tmp_path, embedder, out, step, by_url=lambda urls: (one for one in by_url(urls)))
    assert seen == [0, 1, 2, 3]
    assert len(read_embeddings(out)[0]) == 4
    assert not list(tmp_path.glob("*.part"))


def test_a_file_of_another_embedder_is_refused(
    embed: Callable[..., Done], shop: Shop, tmp_path: Path, embedder: Embedder
) -> None:
    write(tmp_path, {"1": f"{shop.url}/1", "2": f"{shop.url}/2"})
    vectors = np.zeros((1, embedder.embedding_size), np.float32)
    np.savez(tmp_path / "found.npz", ids=np.array(["1"]), embeddings=vectors, embedder=np.array("another"))
    refused = embed()
    assert refused.code == 1
    expected = Bundle.load().backbone_version
    assert f"found.npz is from the embedder another, expected {expected}: remove it" in refused.err.replace("\n", " ")
    assert not shop.asked


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_fetched(
    tmp_path: Path, embedder: Embedder
) -> None:
    write(tmp_path, {"1": "http://shop.example/1"})
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"file/found\.npz cannot be written: "):
        embed_catalogue(
            tmp_path, embedder, tmp_path / "file" / "found.npz", step, by_url=lambda _: pytest.fail("fetched")
        )
