"""Models as named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.bfloat16 import BFLOAT16
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays, ArraySpec, Making
from wardround.common.mapped import is_large, let_go
from wardround.common.model.entries import SHARED, Entries
from wardround.common.model.torch_state import with_ordinary_torch
from wardround.common.rng import seeded_globals
from wardround.common.tasks.base import Task


@with_ordinary_torch
def build_model(task: Task[Any], totals: Sums, seed: int) -> nn.Module:
    """The task's model with the initial weights of this run: the same at every party, since
    torch's generator is seeded by (seed, 'model') and restored. So frozen entries never travel."""
    with seeded_globals(seed, "model"):
        return task.model(totals)


def model_entries(model: nn.Module) -> dict[str, Tensor]:
    """The entries of the state dict that training may change: trained parameters, and buffers.

    A frozen parameter (``requires_grad = False``) is none of them. Every party has it already, from
    the task's ``model()``: so it is neither sent nor written into a checkpoint. Of an entry that
    has two names, the second is none.
    """
    return Entries.of(model).only(model.state_dict(), *SHARED)


def model_arrays(model: nn.Module) -> Arrays:
    """Copies of ``model_entries``, on the CPU: read-only, and ready to be encoded without another
    copy."""
    entries = model_entries(model)
    made = Making({name: spec_of(tensor) for name, tensor in entries.items()})
    return {name: made.copied(name, to_numpy(tensor)) for name, tensor in entries.items()}


def live_arrays(model: nn.Module) -> Arrays:
    """``model_arrays`` for whoever is done with them before the model changes again: of a large one
    on the CPU they are no copies."""
    entries = model_entries(model)
    size_bytes = sum(t.numel() * t.element_size() for t in entries.values())
    if not is_large(size_bytes) or any(t.device.type != "cpu" for t in entries.values()):
        return model_arrays(model)
    return {name: to_numpy(tensor) for name, tensor in entries.items()}


def spec_of(tensor: Tensor) -> ArraySpec:
    """Shape and dtype of the array that holds a tensor."""
    return ArraySpec(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """The tensor's numbers: of one on the CPU, where they are."""
    plain = tensor.detach().cpu()
    if plain.dtype == torch.bfloat16:  # torch knows no numpy type for it
        narrow: NDArray[Any] = plain.view(torch.int16).numpy().view(BFLOAT16)
        return narrow
    return plain.numpy()


def to_tensor(array: NDArray[Any]) -> Tensor:
    """A tensor of a copy of the array."""
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def load_arrays(model: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Copy the arrays into the model's entries of those names; others keep their values.

    The caller has checked names, shapes and dtypes.
    """
    state = model.state_dict()
    with torch.no_grad():
        for name, value in arrays.items():
            target = state[name]
            if target.device.type == "cpu":
                np.copyto(to_numpy(target), value)  # (a tensor of a read-only array needs a copy)
            else:
                target.copy_(to_tensor(value))
            let_go(value)
