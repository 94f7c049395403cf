"""Each network equals its source in torch and ONNX, and nearly so in int8. Wrong weights are named in one line."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

import torchvision  # noqa: E402
from torchvision.models import MobileNet_V2_Weights, MobileNet_V3_Large_Weights, MobileNet_V3_Small_Weights  # noqa: E402
from torchvision.transforms.functional import normalize  # noqa: E402

from model.exceptions import TastestreamError  # noqa: E402
from offline_training.embedders import exporting  # noqa: E402
from offline_training.embedders.backbones.backbones import (  # noqa: E402
    Backbone,
    load_backbone,
    make_torchvision,
    make_v1,
)
from offline_training.embedders.backbones.mobilenet import MobileNet  # noqa: E402
from tests.offline_training.embedders import small  # noqa: E402

pytestmark = pytest.mark.training

SIDE = 64  # pixels; the networks are convolutions, so smaller pictures work too, and faster


def pictures(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def make(name: str) -> Backbone:
    torch.manual_seed(0)
    made = make_v1(MobileNet(small.tensorflow_arrays())) if name == "v1" else make_torchvision(name)
    with torch.no_grad():  # with the initial weights of torchvision an embedding is almost zero
        for layer in made.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    made.image_size = SIDE
    return made


def test_v1_in_blocks_equals_mobilenet() -> None:
    network = MobileNet(small.tensorflow_arrays())
    image = torch.from_numpy(pictures())
    with torch.inference_mode():
        assert torch.allclose(make_v1(network)(image), network(image), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "make_whole", "weights"),
    [
        ("v2", torchvision.models.mobilenet_v2, MobileNet_V2_Weights),
        ("v3-small", torchvision.models.mobilenet_v3_small, MobileNet_V3_Small_Weights),
        ("v3-large", torchvision.models.mobilenet_v3_large, MobileNet_V3_Large_Weights),
    ],
)
def test_v2_and_v3_equal_the_networks_of_torchvision_up_to_the_pooling(
    name: str, make_whole: Any, weights: Any, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    whole = make_whole(num_classes=7).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    image, transforms = pictures(), weights.IMAGENET1K_V1.transforms()
    normalized = normalize(torch.from_numpy(image).permute(0, 3, 1, 2) / 255, transforms.mean, transforms.std)
    network = load_backbone(name, tmp_path / "weights.pth")
    with torch.inference_mode():
        expected = whole.features(normalized).mean(dim=(2, 3))
        found = network(torch.from_numpy(image))
    assert found.shape == (len(image), network.embedding_size) and found.abs().max() > 0
    assert torch.allclose(found, expected, rtol=1e-3, atol=float(expected.abs().max()) * 1e-4)


@pytest.mark.parametrize(
    "name", ["v1", pytest.param("v3-small", marks=pytest.mark.slow)]
)  # with and without rounding of the weights; the others have no other operators
def test_onnx_gives_the_same_embedding_and_int8_the_same_direction(name: str, tmp_path: Path) -> None:
    network, image = make(name), pictures()
    exporting.export(network, tmp_path / "float.onnx", tmp_path / "int8.onnx", pictures(8))
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    exact, rounded = (
        exporting.open_embedder(tmp_path / f"{kind}.onnx", network).embed(image) for kind in ("float", "int8")
    )
    assert exact.shape == (len(image), network.embedding_size) and exact.dtype == np.float32
    assert np.abs(exact - expected).max() < 1e-4 * np.abs(expected).max()
    cosine = (rounded * expected).sum(1) / np.linalg.norm(rounded, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.97  # random weights, and pictures of noise
    assert np.abs(rounded - expected).max() > 1e-3 * np.abs(expected).max()  # the int8 file differs from the float file


@pytest.mark.parametrize("cut", range(4))
def test_the_two_parts_at_any_cut_equal_the_whole_network(cut: int) -> None:
    network = small.backbone()
    image = torch.from_numpy(pictures())
    assert torch.allclose(network.after(network.before(image, cut), cut), network(image), atol=1e-6)


def test_unfreezing_returns_the_parameters_of_the_last_blocks_only() -> None:
    network = small.backbone()
    learning = network.unfreeze(2)
    assert {id(one) for one in learning} == {id(one) for one in network.blocks[2].parameters()}
    assert [name for name, one in network.named_parameters() if one.requires_grad] == [
        f"blocks.2.{name}" for name, _ in network.blocks[2].named_parameters()
    ]
    assert network.unfreeze(3) == [] and not any(one.requires_grad for one in network.parameters())


def test_unfrozen_blocks_of_v1_get_gradients() -> None:
    network = make("v1")
    network.unfreeze(12)
    network(torch.from_numpy(pictures())).sum().backward()
    moved = [name for name, one in network.named_parameters() if one.grad is not None and one.grad.abs().sum() > 0]
    assert moved and all(name.startswith(("blocks.12.", "blocks.13.")) for name in moved)


@pytest.mark.parametrize(
    ("name", "write", "expected"),
    [
        ("v4", None, "--backbone 'v4': expected one of v1, v2, v3-small, v3-large"),
        ("v1", None, "needs --weights FILE"),
        ("v1", b"no arrays", "expected the arrays of MobileNet v1"),
        ("v2", b"no tensors", "expected a state dict"),
        ("v2", {"classifier.1.weight": torch.zeros(2)}, "expected a state dict with features.*, found classifier"),
        ("v2", [1, 2], "expected a state dict with features.*, found none"),
        ("v2", torchvision.models.mobilenet_v3_small().state_dict(), "these are not the weights of v2"),
        ("v3-large", torchvision.models.mobilenet_v3_small().state_dict(), "these are not the weights of v3-large"),
    ],
    ids=["unknown", "none", "no npz", "no pickle", "no features", "a list", "v3 for v2", "small for large"],
)
def test_weights_that_do_not_fit_are_named_in_one_line(tmp_path: Path, name: str, write: object, expected: str) -> None:
    path = tmp_path / "weights"
    if isinstance(write, bytes):
        path.write_bytes(write)
    elif write is not None:
        torch.save(write, path)
    with pytest.raises(TastestreamError) as raised:
        load_backbone(name, None if write is None else path)
    assert expected in str(raised.value) and "\n" not in str(raised.value)


def test_arrays_of_another_network_are_refused(tmp_path: Path) -> None:
    arrays = small.tensorflow_arrays()
    del arrays["Conv2d_7_pointwise/BatchNorm/beta"]
    np.savez(tmp_path / "weights.npz", allow_pickle=False, **arrays)
    with pytest.raises(TastestreamError, match="Conv2d_7_pointwise/BatchNorm/beta"):
        load_backbone("v1", tmp_path / "weights.npz")


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TastestreamError, match=r"none.pth: there is no such file"):
        load_backbone("v2", tmp_path / "none.pth")


def test_a_failed_download_gives_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(TastestreamError, match=r"https://.*mobilenet_v2.*could not be downloaded.*--weights FILE"):
        load_backbone("v2", None)
