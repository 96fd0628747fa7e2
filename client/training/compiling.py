"""``torch.compile`` of a model's forward pass, in place, so that its entries keep their names."""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakSet

from torch import nn

from wardround.common.model.torch_state import is_out_of_memory
from wardround.common.rng import random_state, restore_random_state
from wardround.common.text import one_line

log = logging.getLogger("wardround.client")
_given_up: WeakSet[nn.Module] = WeakSet()
"""Models that can't be compiled here; said once of each."""


class Compiled:
    """The model's forward pass, compiled at the first call; without, where that fails."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        if model not in _given_up and model._compiled_call_impl is None:
            model.compile(dynamic=True)  # the last batch of an epoch is smaller

    def __call__(self, *inputs: Any) -> Any:
        if self._model._compiled_call_impl is None:
            return self._model(*inputs)
        device = inputs[0].device
        state = random_state(device)
        try:
            return self._model(*inputs)
        except Exception as error:  # no compiler, or a model that it doesn't know
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            text = one_line(str(error), 120)
        self._model._compiled_call_impl = None
        _given_up.add(self._model)
        log.warning("the model is not compiled: %s", text)
        restore_random_state(device, state)
        return self._model(*inputs)
