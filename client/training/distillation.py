"""The received global model as a teacher of local training (FedGKD, Yao et al. 2021, 2107.00051).

To each example's loss comes weight T^2 KL(softmax(teacher / T) || softmax(student / T)), of scores
divided by the temperature T (Hinton et al. 2015, arXiv 1503.02531): where a hospital's rows say
little of a class, the local model keeps what the federation knows of it.

Shapes: B examples, C classes, T tokens.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.common.errors import TaskError
from wardround.common.model.precision import whole
from wardround.common.settings import TrainingTable
from wardround.common.tasks.classes import UNLABELLED


class Teacher:
    """A copy of the model as it is now, in evaluation mode. Frozen parameters are not copied."""

    def __init__(self, model: nn.Module, training: TrainingTable) -> None:
        shared = {id(p): p for p in model.parameters() if not p.requires_grad}
        self._model = copy.deepcopy(model, dict(shared)).eval()
        self._weight, self._temperature = training.distillation, training.distillation_temperature

    def losses(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """What comes to the loss of each example, B, by the student's outputs: weight T^2 KL. The
        factor T^2 keeps its gradient as large as the loss's own, whatever T (Hinton et al.)."""
        with torch.no_grad():
            theirs = whole(self._model(inputs))
        return self._weight * divergence(theirs, outputs, targets, self._temperature)


def divergence(teacher: Tensor, student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of each example, B.

    Parameters
    ----------
    teacher, student : B x C; B x 1, the second of two classes' logit; or B x T x C, of which an
        example's value is the mean over its tokens, the labelled ones if targets say which; 0 for
        one that is itself ``UNLABELLED``

    Raises TaskError for outputs of another shape.
    """
    if student.dim() not in (2, 3):
        raise TaskError(
            f"training.distillation: outputs of shape {tuple(student.shape)} are no scores of "
            "classes (examples x classes, or examples x tokens x classes)"
        )
    if student.shape[-1] == 1:  # the first class's logit is 0
        teacher, student = (F.pad(x, (1, 0)) for x in (teacher, student))
    p = F.log_softmax(teacher / temperature, -1)
    q = F.log_softmax(student / temperature, -1)
    found = F.kl_div(q, p, reduction="none", log_target=True).sum(-1) * temperature**2
    if found.dim() == 1:
        return torch.where(targets == UNLABELLED, 0.0, found)
    labelled = torch.ones_like(found)
    if targets.shape == found.shape:
        labelled = (targets != UNLABELLED).to(found.dtype)
    return (found * labelled).sum(1) / labelled.sum(1).clamp_min(1.0)
