"""Which entries of a model travel."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from wardround.common.model.named import load_arrays, model_arrays, model_entries


class Half(nn.Module):
    """A frozen layer, a trained one that shares a name's prefix, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(3, 3).requires_grad_(False)
        self.base_norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 1)


def test_frozen_parameters_do_not_travel() -> None:
    model = Half()
    assert list(model_entries(model)) == [
        "base_norm.weight",
        "base_norm.bias",
        "base_norm.running_mean",
        "base_norm.running_var",
        "base_norm.num_batches_tracked",
        "head.weight",
        "head.bias",
    ]


def test_a_frozen_parameter_with_two_names_is_left_out_under_both() -> None:
    model = Half()
    model.again = model.base
    assert not [name for name in model_entries(model) if name.startswith(("base.", "again."))]


def test_what_is_loaded_is_what_was_taken() -> None:
    one, other = Half(), Half()
    frozen = other.base.weight.clone()
    load_arrays(other, model_arrays(one))
    assert torch.equal(other.base.weight, frozen)
    for name, array in model_arrays(other).items():
        assert np.array_equal(array, model_arrays(one)[name])
