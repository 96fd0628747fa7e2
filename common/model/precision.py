"""The precision that a model was trained in: 16 bits where torch deems it safe, else float32.

``torch.autocast`` (Micikevicius et al. 2018, arXiv 1710.03740). Outputs stay float32, and on a CPU
the convolutions that its library gets wrong. A model predicts in the precision that it was trained
and measured in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from wardround.common.settings import TrainingTable

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_OVER_VOLUMES = (torch.conv3d, torch.conv_transpose3d)
_AXES = {torch.conv1d: 1, torch.conv_transpose1d: 1, torch.conv2d: 2, torch.conv_transpose2d: 2}


def autocast(training: TrainingTable) -> AbstractContextManager[Any]:
    """What forward and loss are computed in: a context, of no effect for float32. The backward
    runs outside it, in the types that the forward has chosen."""
    if training.precision == "float32":
        return nullcontext()
    kind = torch.device(training.device).type
    # without its cache: gradients of functions (``torch.func``) mustn't meet each other's copies
    context = torch.autocast(kind, _TYPES[training.precision], cache_enabled=False)
    return _on_a_cpu(context) if kind == "cpu" else context


@contextmanager
def _on_a_cpu(context: AbstractContextManager[Any]) -> Iterator[None]:
    with context, WholeConvolutions():
        yield


class WholeConvolutions(TorchFunctionMode):
    """Within a CPU's autocast, convolutions over volumes are computed in float32, and others where
    an axis has a single position.

    In 16 bits oneDNN (3.12, with AVX-512) leaves parts of a weight's gradient unwritten where a
    volume is hardly larger than its padding, or a stride leaves one position, as in the last stages
    of a network: what lay in that memory before would be trained on, and sent.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if not torch.is_autocast_enabled("cpu"):
            return func(*args, **given)
        if func not in _OVER_VOLUMES:
            found = func(*args, **given)
            inputs = args[0] if args else given.get("input")
            if func not in _AXES or not _single(_AXES[func], found, inputs):
                return found
        with torch.autocast("cpu", enabled=False):
            return func(*map(_widened, args), **{k: _widened(v) for k, v in given.items()})


def _single(axes: int, *tensors: Any) -> bool:
    return any(1 in one.shape[-axes:] for one in tensors)


def _widened(argument: Any) -> Any:
    return whole(argument) if isinstance(argument, Tensor) else argument


def whole(values: Tensor) -> Tensor:
    """The values in float32, if they are of 16 bits."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
