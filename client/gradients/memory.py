"""Whether a model keeps something of a batch outside its parameters.

A bound on one unit's gradient bounds nothing if the unit also changes what later batches' gradients
are taken at: a running mean in a buffer or in a Python attribute, a queue of features. Two copies
of the model see different rows, then the same ones. Losses and everything that the copies hold must
then be equal to the last bit. So a model may remember its last batch (weights of an attention, for
whoever wants to look) or count its calls, and nothing else.

What is held where no copy reaches (a global, a class, a closure) shows in the losses only.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wardround.client.gradients.base import Inputs, Loss, call_model, check_losses, select
from wardround.common.errors import TaskError
from wardround.common.rng import seed_torch

_MEND = (
    "no noise covers it; leave it as it is while the model trains, or use nn.GroupNorm or "
    "nn.LayerNorm instead"
)
_OPAQUE = (FunctionType, MethodType, BuiltinFunctionType, ModuleType, type)
_RELATIVE, _ABSOLUTE = 1e-4, 1e-6


def twin(model: nn.Module) -> nn.Module:
    """A copy with buffers, attributes and modules of its own; parameters are the model's.

    Raises TaskError for a model that can't be copied: nobody could see what it keeps.
    """
    memo: dict[int, Any] = {id(p): p for p in model.parameters()}
    for _, value in _held("", model, set()):
        if isinstance(value, Tensor) and value.grad_fn is not None:
            memo[id(value)] = value.detach().clone()  # torch copies leaves only
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise TaskError(
            f"the model ({type(model).__name__}) can't be copied ({type(error).__name__}), so "
            "nobody can see whether it keeps something of a batch; leave out attributes that "
            "copy.deepcopy refuses, or use privacy.unit = 'hospital'"
        ) from None


def refuse_memory(model: nn.Module, loss: Loss, inputs: Inputs, targets: Tensor) -> Tensor:
    """The losses of these examples. The model is left as it was.

    Raises TaskError for a model whose later losses, or what it holds, depend on an earlier batch,
    by the name of what keeps it.
    """
    first = torch.zeros(len(targets), dtype=torch.int64, device=targets.device)
    last = first + (len(targets) - 1)
    parameters = [(p, p.detach().clone()) for p in model.parameters()]
    one, two = (_after(model, loss, inputs, targets, rows) for rows in (first, last))
    if moved := [p for p, value in parameters if not _equal(p.detach(), value)]:
        with torch.no_grad():
            for p, value in parameters:
                p.copy_(value)
        names = {id(p): name for name, p in model.named_parameters()}
        raise TaskError(f"parameter '{names[id(moved[0])]}' is changed by a forward pass; {_MEND}")
    if name := _difference(one[1], two[1]):
        raise TaskError(f"{name} of the model keeps something of a batch; {_MEND}")
    if not _equal(one[0], two[0]) and not _same(one[0], two[0]):
        one, two = (
            _after(model, loss, inputs, targets, rows, again=False) for rows in (first, last)
        )
        name = _difference(one[1], two[1]) or "something outside the attributes"
        raise TaskError(
            f"{name} of the model, or its loss, keeps something of a batch by which the losses of "
            f"the next one change; {_MEND}"
        )
    return one[0]


def _after(
    model: nn.Module,
    loss: Loss,
    inputs: Inputs,
    targets: Tensor,
    rows: Tensor,
    again: bool = True,
) -> tuple[Tensor, dict[str, Any]]:
    """Of a copy that has seen ``rows`` and then all examples (or not): the last losses, and what it
    holds."""
    other = twin(model)
    losses = forward(other, loss, select(inputs, rows), targets[rows])
    if again:
        losses = forward(other, loss, inputs, targets)
    return losses, dict(_held("", other, set()))


def forward(model: nn.Module, loss: Loss, inputs: Inputs, targets: Tensor) -> Tensor:
    """The losses, under random numbers of their own."""
    devices = [targets.device] if targets.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        seed_torch(0, targets.device)
        return check_losses(loss(call_model(model, inputs), targets), len(targets))


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The name of the first thing that isn't equal in both; '' if all is."""
    for path in [*one, *(path for path in other if path not in one)]:
        if path not in one or path not in other or not _equal(one[path], other[path]):
            return path
    return ""


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        if not alike or one.device != other.device:
            return False
        return torch.equal(one, other) or (
            one.is_floating_point() and torch.allclose(one, other, 0.0, 0.0, equal_nan=True)
        )
    if isinstance(one, np.ndarray):
        equal_nan = one.dtype.kind in "fc"
        return bool(np.array_equal(one, other, equal_nan=equal_nan))
    return bool(one == other or (one != one and other != other))


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether equal but for what a GPU's sums in any order make."""
    return one.device.type == "cuda" and torch.allclose(
        one, other, _RELATIVE, _ABSOLUTE, equal_nan=True
    )


def _held(path: str, value: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """What a module holds besides parameters, each with its name as a message calls it."""
    if isinstance(value, (nn.Parameter, *_OPAQUE)):
        return
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        yield f"attribute '{path}'", value
    elif isinstance(value, np.ndarray | np.generic):
        yield f"attribute '{path}'", np.asarray(value)
    elif isinstance(value, Tensor):
        yield f"attribute '{path}'", value
    elif isinstance(value, np.random.Generator):
        yield f"attribute '{path}'", repr(value.bit_generator.state)
    elif id(value) in seen:
        return
    else:
        seen.add(id(value))
        yield from _parts(path, value, seen)


def _parts(path: str, value: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """``_held`` for what has parts."""
    dot = f"{path}." if path else ""
    if isinstance(value, nn.Module):
        for name, buffer in value._buffers.items():
            if buffer is not None:
                yield f"buffer '{dot}{name}'", buffer
        for name, module in value.named_children():
            yield from _held(f"{dot}{name}", module, seen)
        for name, part in vars(value).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                yield from _held(f"{dot}{name}", part, seen)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _held(f"{path}[{key!r:.40}]", part, seen)
        yield f"attribute '{path}'", len(value)
    elif isinstance(value, list | tuple | deque):
        for number, part in enumerate(value):
            yield from _held(f"{path}[{number}]", part, seen)
        yield f"attribute '{path}'", len(value)
    elif isinstance(value, set | frozenset):
        yield f"attribute '{path}'", sorted(repr(part) for part in value)
    else:
        for name, part in getattr(value, "__dict__", {}).items():
            yield from _held(f"{dot}{name}", part, seen)
