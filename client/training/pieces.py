"""How many examples go through a model at once: as many as were asked, or as the memory holds.

Where memory runs out, the number is halved and the work begun again from the same random state.
What was found to fit is kept for the model's next rounds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from wardround.common.errors import TaskError
from wardround.common.model.torch_state import is_out_of_memory
from wardround.common.rng import random_state, restore_random_state
from wardround.common.tasks.base import Task

log = logging.getLogger("wardround.client")
T = TypeVar("T")
_fitting: WeakKeyDictionary[nn.Module, dict[str, int]] = WeakKeyDictionary()
"""What was found to fit, by kind of work."""


class Pieces:
    """The size of the pieces in which one model does one kind of work.

    Parameters
    ----------
    what : the kind of work, as a log line calls it
    most : examples in a piece
    obstacle : why the work can't be done in pieces; '' if it can
    """

    def __init__(
        self, model: nn.Module, what: str, most: int, device: str, obstacle: str = ""
    ) -> None:
        self._model, self._what, self._obstacle = model, what, obstacle
        self._device = torch.device(device)
        self.most = min(most, _fitting.get(model, {}).get(what, most))

    def run(self, size: int, work: Callable[[int], T]) -> T:
        """What ``work`` gives, which is told how many of ``size`` examples to take at once.

        It is begun from the start when memory runs out, with the same random numbers: it may not
        have changed anything by then that a second beginning doesn't set anew (gradients, yes;
        parameters, no).

        Raises TaskError if not even one fits, or the work can't be done in pieces.
        """
        while True:
            most = size if size < self.most else self.most
            state = random_state(self._device)
            try:
                return work(most)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # out here the error is gone, and with its traceback the tensors of what failed
            self._shrink(most)
            restore_random_state(self._device, state)

    def _shrink(self, failed: int) -> None:
        if self._obstacle:
            raise TaskError(
                f"out of memory in {self._what} with {failed} examples at once, and fewer can't "
                f"be taken: {self._obstacle}; lower training.batch_size"
            )
        if failed <= 1:
            raise TaskError(
                f"out of memory in {self._what} with a single example; set "
                "training.checkpoint_activations = true or training.precision = 'bf16', or take a "
                "smaller model or another device"
            )
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        # rounded up, so that the halves of a batch are two and not three
        self.most = (failed + 1) // 2
        _fitting.setdefault(self._model, {})[self._what] = self.most
        log.warning(
            "out of memory in %s with %d examples at once: going on with %d",
            self._what,
            failed,
            self.most,
        )


def obstacle(model: nn.Module, task: Task[Any]) -> str:
    """Why a batch's gradient isn't the sum of its slices' gradients; '' if it is."""
    if task.coupled_examples:
        return "the loss of an example depends on others of its batch"
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            return (
                f"layer '{path}' ({type(module).__name__}) takes its statistics from the whole "
                "batch; use layer or group normalisation"
            )
    return ""
