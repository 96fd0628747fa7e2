"""A finished model as the teacher of one in training (``[teacher]``; Hinton et al. 2015).

With weight w and temperature T each example's loss becomes

    (1 - w) loss + w T^2 KL(softmax(teacher / T) || softmax(student / T))    scores of classes
    (1 - w) loss + w (teacher - student)^2                                  a standardised value

The teacher is fixed and prepares the hospital's rows in its own way, by its own totals, so what it
says of a row is a function of that row and of nothing else that a round changes. It is worked out
once, and stands beside the row's target from then on: batches, pieces of them, clipped gradients
of units and shares of several processes come to it as they come to targets.

Shapes: N rows, B of a batch, C classes, T tokens of the student.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wardround.client.training.distillation import divergence
from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.procedures.finished import outputs_of
from wardround.common.settings import TeacherTable
from wardround.common.tasks.base import Examples, Task
from wardround.common.tasks.classes import UNLABELLED

Loss = Callable[[Tensor, Tensor], Tensor]
"""Maps outputs and targets to the loss of each example, B."""
_ALIKE = ("task", "kind", "target", "classes")


def loss_of(task: Task[Any], table: TeacherTable | None) -> Loss:
    """The task's loss; with a teacher the mixed one, which takes ``beside``'s targets."""
    if table is None:
        return task.loss
    weight, temperature = table.weight, table.temperature

    def mixed(outputs: Tensor, targets: Tensor) -> Tensor:
        own, theirs = _apart(task, outputs, targets)
        if task.class_scores:
            # of a word that the teacher has cut off it says what the student says: no pull
            theirs = torch.where(torch.isnan(theirs), outputs.detach(), theirs)
            lesson = divergence(theirs, outputs, own, temperature)
        else:
            lesson = (theirs[:, 0] - outputs[:, 0]) ** 2
        return (1 - weight) * task.loss(outputs, own) + weight * lesson

    return mixed


def beside(task: Task[Any], examples: Examples, theirs: Tensor) -> Examples:
    """Examples whose targets have the teacher's outputs (``lessons``) beside them, float32: N x
    (1 + C), N x T x (1 + C), or of a value N x (its targets + 1)."""
    targets = examples.targets.unsqueeze(-1) if task.class_scores else examples.targets
    return replace(examples, targets=torch.cat([targets.float(), theirs], -1))


def _apart(task: Task[Any], outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """What ``beside`` put together."""
    if not task.class_scores:
        return targets[:, :-1], targets[:, -1:]
    own, theirs = targets[..., 0], targets[..., 1:]
    return (own if outputs.shape[-1] == 1 else own.long()), theirs


def check_taught(
    task: Task[Any], totals: Sums, teacher: ModelFolder, *, each_row: bool = False
) -> None:
    """Raise TaskError unless the teacher's outputs mean what this study's do. No row is looked at.

    totals : the study's own
    each_row : whether what is said of a row may depend on no other: units of few rows are protected
    """
    theirs, own = teacher.schema, task.schema(totals)
    for name in _ALIKE:
        if getattr(theirs, name) != getattr(own, name):
            raise TaskError(
                f"the teacher's {name} isn't this study's, so what it says of a row means "
                "something else",
                mend="teach by a model of the same [task] in kind, target and classes (declare "
                "task.classes as the teacher has them); inputs, preparation and model may differ",
            )
    if each_row and not teacher.task.rowwise:
        raise TaskError(
            "the teacher prepares a row by the hospital's other rows, so no single unit can be "
            "protected in what it says",
            mend="take a teacher of task.normalise = 'federated', or privacy.unit = 'hospital'",
        )


def lessons(
    task: Task[Any],
    examples: Examples,
    totals: Sums,
    teacher: ModelFolder,
    part: Any,
    device: str,
) -> Tensor:
    """What the teacher says of a hospital's training rows, as ``beside`` takes it; float32, on the
    CPU.

    examples, totals : of the student
    part : the training rows, unprepared

    Raises TaskError where the two don't have an example of each row, or for outputs that aren't
    finite numbers.
    """
    prepared = teacher.task.prepare(part, teacher.totals, part)
    if len(prepared) != len(examples):
        raise TaskError(
            f"the teacher makes {len(prepared)} examples of the training rows, and this study's "
            f"task {len(examples)}",
            mend="set what leaves rows out as the teacher has it, such as task.missing",
        )
    module = teacher.trained() if task.class_scores else teacher.module()
    outputs = outputs_of(module, prepared.inputs, device)
    if not torch.isfinite(outputs).all():
        raise TaskError("the teacher's outputs are not finite numbers; take another one")
    if not task.class_scores:
        return task.standardised(outputs, totals).float()
    if examples.targets.dim() == 2:
        return by_word(outputs, prepared.targets, examples.targets)
    return outputs


def by_word(theirs: Tensor, words: Tensor, own: Tensor) -> Tensor:
    """What a teacher says of each text's words, at the tokens that stand for them at the student.

    Parameters
    ----------
    theirs : N x the teacher's tokens x C
    words, own : targets of the teacher and of the student, of which those that are labelled stand
        for a word each, in the text's order

    Gives N x T x C: 0 at other tokens, NaN at words that the teacher has cut off.
    """
    is_word, is_own = words != UNLABELLED, own != UNLABELLED
    rows, at = torch.nonzero(is_word, as_tuple=True)
    own_rows, own_at = torch.nonzero(is_own, as_tuple=True)
    number, own_number = torch.cumsum(is_word, 1) - 1, torch.cumsum(is_own, 1) - 1
    most = max(words.shape[1], own.shape[1])
    by_number = theirs.new_full((len(words), most, theirs.shape[2]), torch.nan)
    by_number[rows, number[rows, at]] = theirs[rows, at]
    found = theirs.new_zeros((*own.shape, theirs.shape[2]))
    found[own_rows, own_at] = by_number[own_rows, own_number[own_rows, own_at]]
    return found
