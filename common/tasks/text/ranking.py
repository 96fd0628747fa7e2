"""Texts and what answers them, compared by the cosine of their embeddings: loss and figures.

Training draws each text to its own answer and away from the other answers of its batch (InfoNCE;
van den Oord et al. 2018, arXiv 1807.03748; for sentences Henderson et al. 2017, arXiv 1705.00652).
An answer that stands in a batch twice is no other answer.

Shapes: N pairs, H numbers of an embedding, of length 1; A different answers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wardround.common.figures.sums import Sums, ratio

_AT_ONCE = 1024
"""Texts whose scores are looked at together: memory grows with A, not with N A."""


def pair_loss(outputs: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """N: cross entropy of each text's own answer among the batch's answers.

    outputs : N x 2 x H, texts and answers
    targets : N int64, equal for equal answers
    """
    asked, answers = outputs[:, 0].float(), outputs[:, 1].float()
    scores = asked @ answers.T / temperature
    place = torch.arange(len(targets), device=targets.device)
    copies = (targets[:, None] == targets[None, :]) & (place[:, None] != place[None, :])
    return F.cross_entropy(scores.masked_fill(copies, -torch.inf), place, reduction="none")


def ranking_sums(outputs: Tensor, targets: Tensor, temperature: float, top_k: int) -> Sums:
    """Sums over N texts, each of shape 1; every text's answer is looked for among all A of them.

    ``examples`` N, ``reciprocal`` 1 / rank, ``first`` and ``top`` how many are first and among the
    first ``top_k``, ``candidates`` A for each, ``loss``. Of equal scores the right one counts as
    the last: embeddings that are all the same find nothing.
    """
    found = {name: 0.0 for name in ("reciprocal", "first", "top", "loss")}
    candidates = 0
    for scores, right in _scored(outputs, targets):
        candidates = scores.shape[1]
        own = scores.gather(1, right[:, None])
        rank = (scores >= own).sum(1).double()
        found["reciprocal"] += float((1 / rank).sum())
        found["first"] += float((rank == 1).sum())
        found["top"] += float((rank <= top_k).sum())
        losses = F.cross_entropy(scores / temperature, right, reduction="none")
        found["loss"] += float(losses.double().sum())
    rows = float(len(targets))
    found |= {"examples": rows, "candidates": rows * candidates}
    return {name: np.array([value]) for name, value in found.items()}


def _scored(outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Cosines of some texts with all answers, and the place of each one's own."""
    _, first, right = np.unique(targets.numpy(), return_index=True, return_inverse=True)
    answers = outputs[torch.from_numpy(first), 1].float()
    places = torch.from_numpy(right.reshape(-1))
    for part in torch.split(torch.arange(len(targets)), _AT_ONCE):
        yield outputs[part, 0].float() @ answers.T, places[part]


def ranking_figures(sums: Sums, top_k: int) -> dict[str, float]:
    """``mrr``, ``recall_at_1``, ``recall_at_K``, ``loss``, ``examples``, and the mean number of
    ``candidates``."""
    rows = float(sums["examples"][0])

    def mean(name: str) -> float:
        return float(ratio(sums[name][0], rows))

    return {
        "mrr": mean("reciprocal"),
        "recall_at_1": mean("first"),
        f"recall_at_{top_k}": mean("top"),
        "candidates": mean("candidates"),
        "loss": mean("loss"),
        "examples": rows,
    }
