"""Figures of answers, from sums that hospitals can add.

* ``perplexity``: exp of the mean negative log-likelihood of the right answers' tokens, earlier
  answers of a conversation included;
* ``token_accuracy``: the share of them that are the likeliest after what stands before them;
* ``exact_match``: the share of right answers all of whose tokens are, so that the model would write
  them if it always took the likeliest token;
* ``accuracy``: the share of questions with choices whose likeliest choice is the right one; the
  first of equal ones. Where all have the study's choices also ``balanced_accuracy``, ``macro_f1``.

Shapes: R rows, T tokens, C declared choices (1 where there are none).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.figure import LOSS, Figure
from wardround.common.figures.sums import Sums, ratio
from wardround.common.tasks.text.causal.rows import CHOOSING, RIGHT, decoded

FIGURES = (
    Figure("accuracy", "higher"),
    Figure("balanced_accuracy", "higher"),
    Figure("macro_f1", "higher"),
    Figure("exact_match", "higher"),
    Figure("token_accuracy", "higher"),
    Figure("perplexity", "lower"),
    Figure("examples"),
    LOSS,
)
_COUNTS = ("tokens", "token_hits", "nats", "answers", "exact", "questions", "chosen", "rows")


def answer_sums(
    outputs: NDArray[np.float32], targets: NDArray[np.int64], declared: int, mean: bool
) -> Sums:
    """All of shape 1 but ``confusion``, C x C [right, chosen]; all zeros where C is 1.

    Parameters
    ----------
    outputs : R x T x 2, log-likelihoods and hits
    targets : R x T, as ``rows.planes`` gives them
    declared : C
    mean : whether a choice's score is its tokens' mean log-likelihood, not their sum
    """
    rows, places = np.nonzero(targets)
    documents, branches, flags = decoded(targets[rows, places])
    likelihood = outputs[rows, places, 0].astype(np.float64)
    hits = outputs[rows, places, 1] > 0.5
    right = (flags & RIGHT) > 0
    answer = right & (branches > 0)
    sums = {
        "tokens": right.sum(),
        "token_hits": (hits & right).sum(),
        "nats": -likelihood[right].sum(),
        "rows": len(targets),
    }
    keys = rows * (int(documents.max(initial=0)) + 1) + documents
    known, place = np.unique(keys[answer], return_inverse=True)
    missed = np.bincount(place, ~hits[answer], len(known))
    sums |= {"answers": len(known), "exact": (missed == 0).sum()}
    truth, chosen = _chosen(keys, branches, flags, likelihood, mean)
    sums |= {"questions": len(truth), "chosen": (truth == chosen).sum()}
    confusion = np.zeros((declared, declared))
    if declared > 1:
        np.add.at(confusion, (truth - 1, chosen - 1), 1.0)
    return {name: np.array([float(value)]) for name, value in sums.items()} | {
        "confusion": confusion
    }


def _chosen(
    keys: NDArray[np.int64],
    branches: NDArray[np.int64],
    flags: NDArray[np.int64],
    likelihood: NDArray[np.float64],
    mean: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Right and likeliest branch of each question with choices whose right one is known."""
    of = ((flags & CHOOSING) > 0) & (branches > 0)
    keys, branches, likelihood = keys[of], branches[of], likelihood[of]
    right = (flags[of] & RIGHT) > 0
    names, place = np.unique(keys, return_inverse=True)
    most = int(branches.max(initial=0)) + 1
    cell = place * most + branches
    total = np.bincount(cell, likelihood, len(names) * most).reshape(len(names), most)
    count = np.bincount(cell, minlength=len(names) * most).reshape(len(names), most)
    with np.errstate(all="ignore"):
        score = np.where(count > 0, total / np.maximum(count, 1) if mean else total, -np.inf)
    truth = np.zeros(len(names), dtype=np.int64)
    truth[place[right]] = branches[right]
    asked = truth > 0
    return truth[asked], score[asked].argmax(1) if most > 1 else truth[asked]


def choice_probabilities(
    outputs: NDArray[np.float32], targets: NDArray[np.int64], declared: int, mean: bool
) -> NDArray[np.float64]:
    """R x C: of each choice among a row's choices, by their scores (softmax).

    As ``answer_sums`` has them, of rows that are a document each.
    """
    rows, places = np.nonzero(targets)
    _, branches, _ = decoded(targets[rows, places])
    of = branches > 0
    rows, places, branches = rows[of], places[of], branches[of]
    total, count = np.zeros((2, len(targets), declared))
    np.add.at(total, (rows, branches - 1), outputs[rows, places, 0].astype(np.float64))
    np.add.at(count, (rows, branches - 1), 1.0)
    score = total / np.maximum(count, 1) if mean else total
    odds = np.exp(score - score.max(1, keepdims=True))
    found: NDArray[np.float64] = odds / odds.sum(1, keepdims=True)
    return found


def answer_figures(sums: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Figures of ``answer_sums``; one that nothing was counted for is NaN.

    Raises ValueError for sums of other shapes.
    """
    for name in (*_COUNTS, "loss"):
        if np.asarray(sums.get(name, ())).shape != (1,):
            raise ValueError(f"sum '{name}': expected one number")
    lone = {name: float(sums[name][0]) for name in (*_COUNTS, "loss")}
    mean = float(ratio(lone["nats"], lone["tokens"]))
    figures = {
        "exact_match": ratio(lone["exact"], lone["answers"]),
        "token_accuracy": ratio(lone["token_hits"], lone["tokens"]),
        "perplexity": math.inf if mean > _MOST else math.exp(mean),
        "examples": lone["answers"],
        "loss": ratio(lone["loss"], lone["rows"]),
    }
    if lone["questions"]:
        figures["accuracy"] = ratio(lone["chosen"], lone["questions"])
    return {name: float(value) for name, value in (figures | _of_classes(sums)).items()}


_MOST = 700.0
"""Of a logarithm whose exponential is still a number."""


def _of_classes(sums: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """As ``multiclass_figures`` has them; nothing without declared choices."""
    confusion = np.asarray(sums.get("confusion", np.zeros((1, 1))), dtype=np.float64)
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise ValueError("sum 'confusion': expected a square")
    if len(confusion) < 2:
        return {}
    with np.errstate(all="ignore"):
        hits, true, guessed = np.diagonal(confusion), confusion.sum(1), confusion.sum(0)
        recall, f1 = hits / true, 2 * hits / (true + guessed)
    mean = {"balanced_accuracy": recall, "macro_f1": f1}
    return {
        name: float(np.nanmean(found)) if np.isfinite(found).any() else math.nan
        for name, found in mean.items()
    }
