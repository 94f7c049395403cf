"""The contract of every aggregator, in torch and exported to ONNX."""

from pathlib import Path

import numpy as np
import pytest
from onnxruntime import InferenceSession

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("onnxscript", reason="needs the extra `train`")

from model import sessions  # noqa: E402
from model.aggregator import LOG_WEIGHT  # noqa: E402
from offline_training.aggregators import AGGREGATORS  # noqa: E402
from offline_training.aggregators.interface import Config  # noqa: E402
from offline_training.aggregators.paper import MaskedAverage, NeuralAggregationNetwork  # noqa: E402
from offline_training.aggregators.served import Served  # noqa: E402
from offline_training.exporting.export import export_aggregator  # noqa: E402
from offline_training.item_network.int8 import Int8Linear, store_in_int8  # noqa: E402
from offline_training.item_network.network import LabelGroup, LabelHead  # noqa: E402

SIZE, CATEGORIES = 48, 7
TOLERANCE = 1e-4

Pair = tuple[Served, InferenceSession]


def network(kind: str) -> Served:
    torch.manual_seed(1)
    head = LabelHead(
        SIZE, CATEGORIES, [LabelGroup([0, 3, 4], exclusive=True), LabelGroup([1, 2, 5, 6], exclusive=False)]
    )
    made = AGGREGATORS[kind](Config(SIZE, CATEGORIES, input_scale=1.0), head)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return Served(made).eval()


QUICK = {"average", "nan+cg", "mean+max"}  # CI exports these: the baseline, the paper's, and the best for the task next


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in AGGREGATORS],
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """An aggregator in torch, and the ONNX session of its export."""
    made = network(request.param)
    path: Path = tmp_path_factory.mktemp("export") / "aggregator.onnx"
    export_aggregator(made, SIZE, path)
    return made, sessions.open_session(path, threads=1)


def bags(batch: int, items: int, padded: float = 0.4):
    generator = torch.Generator().manual_seed(batch * 1000 + items)
    embeddings = torch.rand((batch, items, SIZE), generator=generator) * 6
    log_weight = torch.log(torch.rand((batch, items), generator=generator).clamp_min(0.05))
    padding = torch.rand((batch, items), generator=generator) < padded
    padding[:, 0] = False
    return embeddings, log_weight.masked_fill(padding, -torch.inf), padding


@pytest.mark.parametrize("batch", [1, 2, 9])
@pytest.mark.parametrize("items", [1, 2, 3, 17, 64])
def test_the_export_gives_the_same_output_as_torch(pair: Pair, batch: int, items: int) -> None:
    made, session = pair
    embeddings, log_weight, padding = bags(batch, items)
    embeddings[padding] = 1e20
    with torch.inference_mode():
        scores, attention = made(embeddings, log_weight)
    feed = {"embeddings": embeddings.numpy(), LOG_WEIGHT: log_weight.numpy()}
    onnx_scores, onnx_attention = map(np.asarray, session.run(["scores", "attention"], feed))
    assert np.abs(onnx_scores - scores.numpy()).max() < TOLERANCE
    assert np.abs(onnx_attention - attention.numpy()).max() < TOLERANCE
    assert (onnx_attention[padding.numpy()] == 0).all()


def test_padding_has_no_effect(pair: Pair) -> None:
    made, _ = pair
    embeddings, log_weight, _ = bags(3, 5, padded=0)
    filler = torch.full((3, 4, SIZE), torch.nan)
    with torch.inference_mode():
        scores, attention = made(embeddings, log_weight)
        padded, wider = made(
            torch.cat([embeddings, filler], 1), torch.cat([log_weight, torch.full((3, 4), -torch.inf)], 1)
        )
    assert torch.allclose(scores, padded, atol=1e-6)
    assert torch.allclose(attention, wider[:, :5], atol=1e-6)


def test_an_item_with_a_tiny_weight_has_no_effect(pair: Pair) -> None:
    made, _ = pair
    embeddings, log_weight, _ = bags(3, 5, padded=0)
    faded = torch.cat([log_weight[:, :4], torch.full((3, 1), -40.0)], 1)
    with torch.inference_mode():
        without, _ = made(embeddings[:, :4], log_weight[:, :4])
        scores, attention = made(embeddings, faded)
    assert torch.allclose(scores, without, atol=1e-5)
    assert (attention[:, 4] < 1e-5).all()


def test_the_order_of_the_items_has_no_effect(pair: Pair) -> None:
    made, _ = pair
    embeddings, log_weight, _ = bags(3, 6)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    with torch.inference_mode():
        scores, attention = made(embeddings, log_weight)
        again, moved = made(embeddings[:, order], log_weight[:, order])
    assert torch.allclose(scores, again, atol=1e-5)
    assert torch.allclose(attention[:, order], moved, atol=1e-5)


def test_attention_sums_to_one_over_the_items(pair: Pair) -> None:
    made, _ = pair
    embeddings, log_weight, padding = bags(5, 7)
    with torch.inference_mode():
        scores, attention = made(embeddings, log_weight)
    assert torch.allclose(attention.sum(1), torch.ones(5))
    assert (attention[padding] == 0).all()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_change_of_any_item_changes_the_scores(pair: Pair) -> None:
    made, _ = pair
    embeddings, log_weight, _ = bags(1, 3, padded=0)
    with torch.inference_mode():
        scores, _ = made(embeddings, log_weight)
        for item in range(3):
            other = embeddings.clone()
            other[0, item] *= -3
            assert not torch.allclose(made(other, log_weight)[0], scores, atol=1e-6)


def test_an_untrained_network_is_the_weighted_average() -> None:
    embeddings, log_weight, _ = bags(4, 6)
    _, attention = NeuralAggregationNetwork(Config(SIZE, CATEGORIES))(embeddings, log_weight)
    assert torch.allclose(attention, torch.softmax(log_weight, dim=1))


def test_an_untrained_network_predicts_its_prior() -> None:
    made = MaskedAverage(Config(SIZE, CATEGORIES))
    prior = torch.linspace(0.05, 0.6, CATEGORIES)
    made.start_at(prior)
    logits, _ = made(torch.zeros((1, 1, SIZE)), torch.zeros((1, 1)))
    assert torch.allclose(torch.sigmoid(logits[0]), prior, atol=1e-5)


def test_the_network_computes_the_equations_of_the_paper() -> None:
    """e_k = q0 f_k; r0; q1 = tanh(W r0 + b); r1; sigmoid(W' r1 + b') * r1; layer. Computed again in numpy."""
    made = network("nan+cg").network
    state = {name: value.numpy().astype(np.float64) for name, value in made.state_dict().items()}
    embeddings, log_weight, _ = bags(1, 5, padded=0)
    items, log_weights = embeddings[0].double().numpy(), log_weight[0].double().numpy()

    def softmax(x: np.ndarray) -> np.ndarray:
        return np.exp(x - x.max()) / np.exp(x - x.max()).sum()

    def matrix(name: str) -> np.ndarray:
        return state[f"{name}.levels"] * state[f"{name}.scale"]

    first = softmax(items @ state["first_query"] + log_weights) @ items
    query = np.tanh(matrix("second_query") @ first + state["second_query.bias"])
    attention = softmax(items @ query + log_weights)
    second = attention @ items
    gated = second / (1 + np.exp(-(matrix("gate.transform") @ second + state["gate.transform.bias"])))
    logits = state["layer.weight"] @ gated + state["layer.bias"]

    with torch.inference_mode():
        found_logits, found_attention = made(embeddings, log_weight)
    assert np.allclose(found_logits[0], logits, atol=1e-3)
    assert np.allclose(found_attention[0], attention, atol=1e-4)


def test_int8_matrices_stay_within_half_a_level() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(16, 8)
    rounded = Int8Linear(layer)
    assert rounded.levels.dtype == torch.int8
    assert ((rounded.levels * rounded.scale - layer.weight).abs() <= rounded.scale / 2 + 1e-7).all()


def test_all_linear_layers_but_one_are_stored_in_int8_at_any_depth() -> None:
    torch.manual_seed(0)
    made = torch.nn.Sequential()
    made.add_module("inside", torch.nn.Sequential(torch.nn.Linear(8, 8, bias=False), torch.nn.GELU()))
    made.add_module("layer", torch.nn.Linear(8, 3))
    given = torch.randn(5, 8)
    with torch.inference_mode():
        before = made(given)
        store_in_int8(made, but="layer")
        assert torch.allclose(made(given), before, atol=0.05)
    assert [type(part).__name__ for part in made.modules()][2:] == ["Int8Linear", "GELU", "Linear"]
