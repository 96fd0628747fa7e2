"""torch as our code expects it, whatever the caller's process has set for itself.

A notebook that works in float64, a call inside ``torch.no_grad()`` or ``torch.inference_mode()``:
these are global to the process or the thread, and would change what is trained, or stop it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def ordinary_torch() -> Iterator[None]:
    """float32 by default, gradients on, no inference mode, no autocast, tensors on the CPU unless
    something else is asked for; afterwards all is as it was."""
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        if before != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, before)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def with_ordinary_torch(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run in ``ordinary_torch``."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        with ordinary_torch():
            return function(*args, **kwargs)

    return guarded


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out: the GPU's, or the machine's (which torch only says in words)."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
