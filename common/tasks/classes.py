"""What tasks with classes have in common: loss, metric sums and figures, of two or more classes.

Of two classes a model has one output, the logit of the second; of C > 2 it has C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.errors import TaskError
from wardround.common.figures.figure import BINARY, MULTICLASS, Figure
from wardround.common.figures.sums import (
    Sums,
    binary_figures,
    binary_sums,
    multiclass_figures,
    multiclass_sums,
    ratio,
)
from wardround.common.tasks.class_limits import UNLABELLED as UNLABELLED
from wardround.common.tasks.schema import PROBABILITY, probability_of

Kind = Literal["binary", "multiclass"]
PRIMARY: dict[Kind, str] = {"binary": "auc", "multiclass": "accuracy"}
"""The figure that chooses the best round; more is better."""
CLASS_FIGURES: dict[Kind, tuple[Figure, ...]] = {"binary": BINARY, "multiclass": MULTICLASS}
"""What ``class_figures`` makes."""


def class_loss(kind: Kind, outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of each example, B: outputs B x 1 and float targets, or B x C and int64;
    0 where these are ``UNLABELLED``."""
    if kind == "multiclass":
        return F.cross_entropy(outputs, targets, reduction="none", ignore_index=UNLABELLED)
    return F.binary_cross_entropy_with_logits(outputs[:, 0], targets, reduction="none")


def class_sums(kind: Kind, outputs: Tensor, targets: Tensor, bins: int) -> Sums:
    """Sums of ``common/figures/sums.py`` for the kind: outputs N x 1 or N x C, float64 by then, to
    probabilities by a sigmoid or a softmax. Those that are ``UNLABELLED`` are left out.

    Raises ValueError for outputs that aren't finite.
    """
    if kind == "multiclass" and bool((targets == UNLABELLED).any()):
        outputs, targets = outputs[targets != UNLABELLED], targets[targets != UNLABELLED]
    values, truth = outputs.double(), targets.numpy()
    if kind == "binary":
        return binary_sums(torch.sigmoid(values[:, 0]).numpy(), truth, bins)
    return multiclass_sums(torch.softmax(values, dim=1).numpy(), truth, bins)


def class_predictions(
    kind: Kind, outputs: Tensor, classes: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Probabilities as ``class_sums`` has them, N each, by the names of ``class_outputs``."""
    values = outputs.detach().cpu().double()
    if kind == "binary":
        return {PROBABILITY: torch.sigmoid(values[:, 0]).numpy()}
    found = torch.softmax(values, dim=1).numpy()
    return {probability_of(name): found[:, at] for at, name in enumerate(classes)}


def class_figures(kind: Kind, sums: Sums) -> dict[str, float]:
    """Figures of ``class_sums``."""
    return (binary_figures if kind == "binary" else multiclass_figures)(sums)


def checked_outputs(outputs: Tensor) -> Tensor:
    """The outputs on the CPU, float32. Raises TaskError if one isn't finite: no figure of such a
    model would mean anything."""
    if not torch.isfinite(outputs).all():
        raise TaskError("the model's outputs are not finite numbers; lower training.lr")
    return outputs.detach().float().cpu()


def loss_sum(losses: Tensor) -> Sums:
    """``loss``: the summed loss, shape 1."""
    return {"loss": losses.double().sum().reshape(1).numpy()}


def with_mean_loss(figures: dict[str, float], sums: Sums) -> dict[str, float]:
    """The figures and ``loss``, the mean over examples."""
    return figures | {"loss": float(ratio(sums["loss"][0], figures["examples"]))}
