"""The blend of the trend with what the items of a bag say: its formula, what it does without evidence, and its fitting."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `train`")

import torch
from torch import Tensor

from model.aggregator import Aggregator
from model.bundle.manifest import Field
from model.bundle.onnx_check import check_network
from model.sessions import open_session
from offline_training.aggregators.blend import Blend, TrendBlend
from offline_training.aggregators.blend_fitting import BlendRecipe, Known, fit_blend, predict
from offline_training.exporting.export import export_trend_aggregator
from offline_training.item_network.labels import ItemLabelShares, label_arrays
from offline_training.item_network.network import LabelGroup, LabelHead
from offline_training.tasks.purchases import NO_ITEM, Contexts, Daily

FIELDS = {"two fields": [[0, 1, 2], [3, 4]], "a field and two others": [[0, 2, 3]], "no field": []}
PRIOR = [0.5, 0.3, 0.2, 0.6, 0.4]


def made(fields: list[list[int]], *, seed: int = 0) -> Blend:
    """A blend whose numbers are all different, and whose network says something."""
    torch.manual_seed(seed)
    blend = Blend(fields, torch.tensor(PRIOR)).eval()
    with torch.no_grad():
        for parameter in blend.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return blend


def bag(items: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.rand(2, items, 5, generator=rng)
    ages = torch.rand(2, items, generator=rng) * 30
    return labels, torch.log(torch.rand(2, items, generator=rng)), ages, torch.rand(2, 3, 5, generator=rng) * 100


def scores(blend: Blend, *inputs: Tensor) -> np.ndarray:
    return blend.log_scores(blend(*inputs)[0]).exp().detach().numpy()


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS.keys())
def test_the_scores_of_a_field_sum_to_1_and_all_others_are_probabilities(fields: list[list[int]]) -> None:
    found = scores(made(fields), *bag(4))
    for columns in fields:
        assert found[:, columns].sum(1) == pytest.approx(1)
    assert ((found > 0) & (found < 1)).all()


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS.keys())
def test_padding_changes_nothing_whatever_is_in_it(fields: list[list[int]]) -> None:
    blend, (labels, log_weight, ages, trend) = made(fields), bag(4)
    junk = torch.full((2, 3), torch.nan)
    padded = (
        torch.cat([labels, junk.unsqueeze(2).expand(2, 3, 5)], 1),
        torch.cat([log_weight, torch.full((2, 3), -torch.inf)], 1),
        torch.cat([ages, junk], 1),
        trend,
    )
    assert scores(blend, *padded) == pytest.approx(scores(blend, labels, log_weight, ages, trend), abs=1e-6)
    attention = blend(*padded)[1].detach().numpy()
    assert attention.sum(1) == pytest.approx(1)
    assert (attention[:, 4:] == 0).all()


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS.keys())
def test_a_bag_without_an_item_gives_the_trend_alone_whatever_its_embedding_says(fields: list[list[int]]) -> None:
    blend, (_, _, _, trend) = made(fields), bag(1)
    nothing, no_age = torch.full((2, 1), NO_ITEM), torch.zeros(2, 1)
    one = scores(blend, torch.zeros(2, 1, 5), nothing, no_age, trend)
    other = scores(blend, torch.full((2, 1, 5), 0.9), nothing, no_age, trend)
    assert one == pytest.approx(other, abs=1e-7)
    assert np.abs(one[0] - one[1]).max() > 0.01, "and it follows the trend"
    blend.corrected.zero_()
    alone = scores(blend, torch.zeros(2, 1, 5), nothing, no_age, trend)
    assert one == pytest.approx(alone, abs=1e-6), "the network has nothing to correct"


def test_a_shop_without_events_gives_the_prior() -> None:
    blend = Blend(FIELDS["two fields"], torch.tensor(PRIOR)).eval()  # its weights of the windows begin with a sum of 1
    found = scores(blend, torch.zeros(1, 1, 5), torch.full((1, 1), NO_ITEM), torch.zeros(1, 1), torch.zeros(1, 3, 5))
    assert found[0] == pytest.approx(PRIOR, abs=1e-5)


def test_the_scores_are_those_of_the_formula() -> None:
    blend = made([[0, 1, 2, 3, 4]])
    blend.corrected.zero_()
    labels, log_weight, ages, trend = bag(3)
    value = {name: float(p.detach()[0]) for name, p in blend.named_parameters() if p.shape == (1,)}
    smoothing = np.exp(blend.log_smoothing.detach().numpy()[:, 0])
    prior = np.array(PRIOR) / sum(PRIOR)
    for row in range(2):
        seven, month, ever = trend[row].double().numpy()
        ever = (ever + smoothing[2] * prior) / (ever.sum() + smoothing[2])
        month = (month + smoothing[1] * ever) / (month.sum() + smoothing[1])
        seven = (seven + smoothing[0] * month) / (seven.sum() + smoothing[0])
        log_weights, days = log_weight[row].double().numpy(), ages[row].double().numpy()
        weights = np.exp(log_weights) * (1 + days) ** -np.exp(value["log_decay"])
        weights *= np.exp(value["session"] * np.clip(log_weights / -0.3, 0, 1) * np.exp(-24 * days))
        doubt = np.exp(value["log_doubt"])
        evidence = (weights @ labels[row].double().numpy() + doubt * month) / (weights.sum() + doubt)
        logits = value["of_week"] * np.log(seven) + value["of_month"] * np.log(month) + value["of_ever"] * np.log(ever)
        logits += value["of_bag"] * (np.log(evidence) - np.log(month))
        expected = np.exp(logits) / np.exp(logits).sum()
        assert scores(blend, labels, log_weight, ages, trend)[row] == pytest.approx(expected, abs=1e-5)


def test_a_view_of_the_last_minutes_counts_more_than_a_purchase_of_the_last_month_and_an_old_one_less() -> None:
    blend = Blend([[0, 1, 2, 3, 4]], torch.tensor(PRIOR)).eval()
    with torch.no_grad():
        blend.session.fill_(3.0)
    labels = torch.eye(5)[None, :2]  # a purchase of category 0, and a view of category 1
    weights, trend = torch.log(torch.tensor([[1.0, 0.3]])), torch.ones(1, 3, 5)
    now, later = (scores(blend, labels, weights, torch.tensor([[30.0, age]]), trend)[0] for age in (0.001, 30.0))
    assert now[1] > now[0]
    assert later[1] < later[0]


def test_the_exported_network_computes_the_same_and_passes_the_check_of_a_bundle(tmp_path: Path) -> None:
    torch.manual_seed(0)
    groups = [LabelGroup([0, 1, 2], exclusive=True), LabelGroup([3, 4], exclusive=False)]
    network = TrendBlend(ItemLabelShares(label_arrays(LabelHead(8, 5, groups))), made([[0, 1, 2]])).eval()
    path = tmp_path / "aggregator.onnx"
    export_trend_aggregator(network, 8, 5, path)
    check_network(path.read_bytes())
    aggregator = Aggregator(open_session(path, 1), 8, 5)
    assert aggregator.uses_trend
    _, log_weight, ages, trend = bag(7)
    embeddings = torch.randn(2, 7, 8)
    log_weight[0, 3:] = -torch.inf
    scored = aggregator.score(*(one.numpy() for one in (embeddings, log_weight, ages, trend)))
    expected = network(embeddings, log_weight, ages, trend)
    assert scored.scores == pytest.approx(expected[0].detach().numpy(), abs=1e-5)
    assert scored.attention == pytest.approx(expected[1].detach().numpy(), abs=1e-5)
    short = [one[:1, :3].numpy() for one in (embeddings, log_weight, ages)]
    alone = aggregator.score(short[0], short[1], short[2], trend[:1].numpy())
    assert alone.scores == pytest.approx(scored.scores[:1], abs=1e-6), "a bag scores the same alone and in a batch"


def loyal_users(users: int, *, seed: int) -> tuple[Known, Contexts]:
    """Users who always buy the same colour, in sizes that mean nothing; and what all buy changes every day."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((6, 5), np.float32)  # an item for each colour and size
    for item in range(6):
        labels[item, [item % 3, 3 + item // 3]] = 1
    colour = rng.integers(3, size=users)
    bags = colour[:, None] + 3 * rng.integers(2, size=(users, 4))
    targets = colour + 3 * rng.integers(2, size=users)
    contexts = Contexts(
        np.arange(users, dtype=np.int32),
        rng.integers(10, size=users).astype(np.int32),
        np.arange(0, 4 * users + 1, 4),
        bags.ravel().astype(np.int32),
        np.zeros(4 * users, np.float32),
        rng.integers(1, 60, 4 * users).astype(np.float32),
        targets.astype(np.int32),
        np.arange(users),
    )
    trend = Daily(0, (np.random.default_rng(9).random((10, 3, 5)) * 100).astype(np.float32))
    fields = [Field("colour", [0, 1, 2]), Field("size", [3, 4])]
    return Known(labels, labels > 0, trend, fields), contexts


def test_fitting_learns_what_the_bags_say_and_stays_calibrated_where_they_say_nothing() -> None:
    known, train = loyal_users(600, seed=0)
    _, validation = loyal_users(200, seed=1)
    recipe = BlendRecipe(batch=64, blend_steps=150, network_steps=40, hidden=8)
    ticks: list[int] = []
    fitted = fit_blend(known, train, [validation], recipe, seed=0, advance=ticks.append)
    assert sum(ticks) == recipe.steps
    found = predict(fitted.blend, known, validation)
    of_target = found[:, :3][np.arange(200), validation.targets % 3]
    assert of_target.mean() > 0.9
    alone, both = fitted.validation["size"]
    assert alone == pytest.approx(np.log(2), abs=0.03), "a size is a coin"
    corrected = fitted.blend.corrected.numpy()
    assert bool(corrected[3]) == (both < alone), "the network corrects a field only where it wins"


def test_the_network_corrects_no_field_in_which_it_loses_on_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    from offline_training.aggregators import blend_fitting  # noqa: PLC0415

    known, train = loyal_users(100, seed=0)
    given = iter([np.array([1.0, 1.0]), np.array([0.9, 1.1])])

    def losses(*_: object) -> np.ndarray:
        return next(given)

    def nothing(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr(blend_fitting, "_train", nothing)
    monkeypatch.setattr(blend_fitting._Parts, "losses", losses)  # pyright: ignore[reportPrivateUsage]
    fitted = fit_blend(known, train, [train], BlendRecipe(hidden=4), seed=0, advance=lambda _: None)
    assert fitted.blend.corrected.tolist() == [1, 1, 1, 0, 0]
