"""The tabular task with a model that a program gave: a module, or what makes one.

All else is the tabular task's: preparation, loss and figures. Nothing of the model is stored but
its numbers, so whoever loads it gives it again.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.features import feature_names
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.tabular_model import model_shape

OwnModel = nn.Module | Callable[..., nn.Module]
"""A module, of which every party takes a copy; or a function or class that makes one, of nothing,
of the number of inputs, or of the numbers of inputs and outputs."""
_SHOWN = 8
_BOUNDED = (nn.Sigmoid, nn.Softmax, nn.LogSigmoid)
_LOGITS = "outputs are logits, as the loss has the sigmoid or softmax: end with nn.Linear"


class OwnModelTask(TabularTask):
    """``TabularTask`` whose model is ``own``. Raises TaskError for what can't be one."""

    has_own_model = True

    def __init__(self, own: OwnModel, **options: Any) -> None:
        super().__init__(**options)
        self._own = own
        self._takes = 0 if isinstance(own, nn.Module) else _taken(own)

    def model(self, totals: Sums) -> nn.Module:
        """A copy of the module, or a new one. Raises TaskError where it doesn't fit the data."""
        inputs, outputs = model_shape(totals, self.options)
        found = self._made(inputs, outputs)
        self._check(found, inputs, outputs, feature_names(totals, self.options))
        return found

    def _made(self, inputs: int, outputs: int) -> nn.Module:
        if isinstance(self._own, nn.Module):
            return copy.deepcopy(self._own)
        try:
            found = self._own(*(inputs, outputs)[: self._takes])
        except Exception as error:
            raise TaskError(
                f"model: making it of {inputs} inputs and {outputs} outputs failed with "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(found, nn.Module):
            raise TaskError(
                f"model: it made a {type(found).__name__}, not a torch.nn.Module",
                mend="return the module",
            )
        return found

    def _check(self, model: nn.Module, inputs: int, outputs: int, names: list[str]) -> None:
        """Raise TaskError unless it makes one row of outputs of each row of inputs. Layers whose
        size is open (``nn.LazyLinear``) get it here."""
        trains = model.training
        try:
            with torch.no_grad():
                found = model.eval()(torch.zeros(2, inputs))
        except Exception as error:
            shown = ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
            raise TaskError(
                f"model: rows of {inputs} inputs ({shown}) end in {type(error).__name__}: {error}",
                mend="give a function of the numbers: model=lambda inputs, outputs: ...",
            ) from error
        model.train(trains)
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if shape != (2, outputs):
            raise TaskError(
                f"model: of 2 rows it makes {shape}, and task.kind = '{self.kind}' needs "
                f"(2, {outputs})",
                mend=_LOGITS if self.class_scores else f"end with nn.Linear(..., {outputs})",
            )
        if self.class_scores and isinstance(model, nn.Sequential) and len(model):
            if isinstance(model[-1], _BOUNDED):
                raise TaskError(f"model: it ends with {type(model[-1]).__name__}", mend=_LOGITS)


def _taken(own: Callable[..., nn.Module]) -> int:
    """How many of (inputs, outputs) a function wants. Raises TaskError for what is none."""
    if not callable(own):
        raise TaskError(
            f"model: {type(own).__name__} is neither a torch.nn.Module nor a function",
            mend="give a module, or a function of the numbers of inputs and outputs",
        )
    try:
        parameters = inspect.signature(own).parameters.values()
    except ValueError:  # of a class written in C
        return 2
    places = [
        one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    needed = [one for one in places if one.default is one.empty]
    if len(needed) > 2 or any(
        one.kind is one.KEYWORD_ONLY and one.default is one.empty for one in parameters
    ):
        raise TaskError(
            f"model: {getattr(own, '__name__', 'it')} needs {len(needed)} arguments",
            mend="it gets the numbers of inputs and of outputs: model=lambda inputs, outputs: ...",
        )
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return 2
    return len(needed)
