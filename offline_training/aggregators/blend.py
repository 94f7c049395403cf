"""What is wanted now, times what the items of a bag say: a log-linear blend for each field, and a small network on top.

For the labels l of a field, with p7, p28 and pe their shares in what all users took in 7 days, in 28 days and ever:

    logit_l = a1 log p7(l) + a2 log p28(l) + a3 log pe(l) + b (log e(l) - log p28(l))
    e(l)    = (sum_i w_i q_i(l) + m p28(l)) / (sum_i w_i + m)
    w_i     = weight_i (1 + age_i)^-lambda exp(c s_i)

q_i(l) is how much item i belongs to l, by its picture. s_i is 1 for an item that was viewed or put in the cart in the last minutes.
A softmax over the field makes probabilities. Labels of no field have a sigmoid, and log odds in place of logarithms. Each window is
smoothed by the longer one, and ever by the prior. So a shop without events gets the prior, and a user without a bag the trend.

The network sees how the bag differs from the trend in all fields at once, and corrects the logits.

Sources: Jelinek and Mercer, "Interpolated estimation of Markov source parameters from sparse data", 1980 (smoothing by a longer
window); Genest and Zidek, "Combining probability distributions", Statistical Science 1 (1986) (log-linear pools).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from offline_training.item_network.labels import ItemLabelShares

SESSION_HOURS = 1.0  # after so long, the session term of an item has fallen to 1 / e
INTEREST = (
    -0.3
)  # log weight (a weight of .74) from which on downwards an interaction says what is wanted, not what is done
NO_EVIDENCE = -50.0  # log weight at and below which an item is none: that of an empty bag is -60
LEAST_PRIOR = 1e-6
LITTLE = 0.01  # evidence, in items of today, at which the network has half its effect
LONG = 1e4  # days: age of the newest item of a bag without items
LIFT_SCALE, SIZE_SCALE = 3.0, 0.3  # inputs of the network, so that they are about as large as each other


class Blend(nn.Module):
    """The blend and the network, over the labels of the items.

    Args:
        fields: categories of each of F fields.
        prior: share of each category among what users took, [D].
        hidden: width of the network.
        dropout: of its inputs and its hidden layer.
    """

    def __init__(
        self, fields: Sequence[Sequence[int]], prior: Tensor, *, hidden: int = 64, dropout: float = 0.3
    ) -> None:
        super().__init__()
        categories = len(prior)
        member = torch.zeros(categories, len(fields))
        for number, columns in enumerate(fields):
            member[list(columns), number] = 1.0
        alone = member.sum(1) == 0
        self.any_alone = bool(alone.any())
        sets = len(fields) + self.any_alone  # of parameters: one for each field, and one for all labels of no field
        of_set = torch.where(alone, len(fields), member.argmax(1) if len(fields) else 0)
        clipped = prior.float().clamp(LEAST_PRIOR, 1 - LEAST_PRIOR)
        total = torch.matmul(member, torch.matmul(clipped, member)) + alone.float()
        self.register_buffer("member", member)
        self.register_buffer("alone", alone.float())
        self.register_buffer("of_set", of_set)
        self.register_buffer("in_set", functional.one_hot(of_set, sets).float().T.contiguous())  # [sets,D]
        self.register_buffer("prior", clipped / total)
        self.register_buffer("corrected", torch.ones(categories))
        self.member: Tensor
        self.alone: Tensor
        self.of_set: Tensor
        self.in_set: Tensor
        self.prior: Tensor
        self.corrected: Tensor
        """1 for each category that the network corrects, [D]."""

        def start(value: float) -> nn.Parameter:
            return nn.Parameter(torch.full((sets,), value))

        self.of_week, self.of_month, self.of_ever, self.of_bag = start(0.3), start(0.5), start(0.2), start(0.8)
        self.log_smoothing = nn.Parameter(torch.tensor([[3.0], [3.0], [1.6]]).repeat(1, sets))  # items; [3,sets]
        self.log_decay, self.log_doubt, self.session = start(-0.4), start(0.0), start(0.0)  # lambda, m, c
        self.network_decay = nn.Parameter(torch.tensor(-0.5))
        self.network_session = nn.Parameter(torch.tensor(0.0))
        self.hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(categories + 4, hidden), nn.GELU(), nn.Dropout(dropout)
        )
        self.layer = nn.Linear(hidden, categories)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def blend_parameters(self) -> list[nn.Parameter]:
        """The parameters of the blend alone."""
        of_network = {id(parameter) for parameter in self.network_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in of_network]

    def network_parameters(self) -> list[nn.Parameter]:
        """The parameters of the network."""
        return [self.network_decay, self.network_session, *self.hidden.parameters(), *self.layer.parameters()]

    def forward(self, labels: Tensor, log_weight: Tensor, ages: Tensor, trend: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, D], for `log_scores`, and attention [B, M].

        Args:
            labels: how much each item belongs to each category, [B, M, D].
            log_weight: [B, M].
            ages: [B, M], days.
            trend: [B, 3, D], items.
        """
        padding = torch.isneginf(log_weight)
        labels = torch.where(padding.unsqueeze(2), torch.zeros((), dtype=labels.dtype), labels)
        ages = torch.where(padding, torch.zeros((), dtype=ages.dtype), ages)
        of_session = (log_weight / INTEREST).clamp(0, 1) * torch.exp(ages * (-24 / SESSION_HOURS))  # s [B,M]
        slowed = torch.log1p(ages)
        week, month, ever = self._shares(trend)  # [B,D] each
        logs = (
            log_weight.unsqueeze(2)
            - slowed.unsqueeze(2) * self.log_decay.exp()
            + of_session.unsqueeze(2) * self.session
        )
        weights = torch.exp(logs)  # w [B,M,sets]
        doubt = self.log_doubt.exp()[self.of_set]  # m [D]
        found = (torch.matmul(weights.transpose(1, 2), labels) * self.in_set).sum(1)  # [B,D]
        total = torch.matmul(weights.sum(1), self.in_set)  # [B,D]
        of_bag = self._log((found + doubt * month) / (total + doubt))
        of_month = self._log(month)
        logits = (
            self.of_week[self.of_set] * self._log(week)
            + self.of_month[self.of_set] * of_month
            + self.of_ever[self.of_set] * self._log(ever)
            + self.of_bag[self.of_set] * (of_bag - of_month)
        )
        logits = logits + self.corrected * self._correction(labels, log_weight, slowed, of_session, month)
        of_items = (weights / weights.sum(1, keepdim=True).clamp(min=1e-30)).mean(2)
        return logits, of_items / of_items.sum(1, keepdim=True)

    def log_scores(self, logits: Tensor) -> Tensor:  # [B,D] -> [B,D]
        """Return the logarithms of the scores: a softmax over each field, a sigmoid for labels of no field."""
        if not self.member.shape[1]:
            return functional.logsigmoid(logits)
        largest = (logits - self.alone * 1e4).amax(1, keepdim=True)
        shifted = (logits - largest).clamp(min=-80)  # the fields of one bag lie near each other
        total = torch.matmul(torch.exp(shifted) * (1 - self.alone), self.member)  # [B,F]
        within = shifted - torch.matmul(torch.log(total), self.member.T)
        return within if not self.any_alone else torch.where(self.alone > 0, functional.logsigmoid(logits), within)

    def _shares(self, trend: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the smoothed share of each category in each window, [B, D]."""
        sums = torch.matmul(trend, self.member)  # [B,3,F]
        totals = torch.matmul(sums, self.member.T)  # [B,3,D]
        if self.any_alone:  # how many items all users took: at least as many as have a label of the largest field
            every = (sums if self.member.shape[1] else trend).amax(2, keepdim=True)
            totals = totals + every * self.alone
        added = self.log_smoothing.exp()[:, self.of_set]  # [3,D]
        ever = (trend[:, 2] + added[2] * self.prior) / (totals[:, 2] + added[2])
        month = (trend[:, 1] + added[1] * ever) / (totals[:, 1] + added[1])
        week = (trend[:, 0] + added[0] * month) / (totals[:, 0] + added[0])
        return week, month, ever

    def _log(self, shares: Tensor) -> Tensor:
        """Return logarithms within fields, log odds elsewhere."""
        logs = torch.log(shares.clamp(min=1e-12))
        return logs - torch.log1p(-(shares * self.alone).clamp(max=1 - 1e-6)) if self.any_alone else logs

    def _correction(
        self, labels: Tensor, log_weight: Tensor, slowed: Tensor, of_session: Tensor, month: Tensor
    ) -> Tensor:  # [B,D]
        weights = torch.exp(log_weight - slowed * self.network_decay.exp() + self.network_session * of_session)  # [B,M]
        total = weights.sum(1, keepdim=True)
        mean = torch.matmul(weights.unsqueeze(1), labels).squeeze(1) / (total + 1)
        lift = mean - month * total / (total + 1)
        there = (log_weight > NO_EVIDENCE).float()
        newest = torch.where(there > 0, slowed, torch.log1p(torch.tensor(LONG))).amin(1, keepdim=True)
        sizes = [
            torch.log(total + 1e-9).clamp(min=-5),
            newest,
            torch.log1p(there.sum(1, keepdim=True)),
            torch.log1p((of_session * there).sum(1, keepdim=True)),
        ]
        seen = torch.cat([lift * LIFT_SCALE, torch.cat(sizes, 1) * SIZE_SCALE], 1)
        return self.layer(self.hidden(seen)) * (total / (total + LITTLE))


class TrendBlend(nn.Module):
    """`Blend` over the labels that the codes of the items say: the whole of `aggregator.onnx` that takes ages and trend."""

    def __init__(self, labels: ItemLabelShares, blend: Blend) -> None:
        super().__init__()
        self.labels, self.blend = labels, blend

    def forward(self, embeddings: Tensor, log_weight: Tensor, ages: Tensor, trend: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores [B, D] and attention [B, M]."""
        clean = torch.where(
            torch.isneginf(log_weight).unsqueeze(2), torch.zeros((), dtype=embeddings.dtype), embeddings
        )
        logits, attention = self.blend(self.labels(clean), log_weight, ages, trend)
        return torch.exp(self.blend.log_scores(logits)), attention
