"""Mixed precision: forward and loss in 16 bits where torch deems it safe, all else in float32.

``torch.autocast`` (Micikevicius et al. 2018, arXiv 1710.03740). Parameters, their gradients,
optimiser and updates stay float32; so do outputs, losses and figures, and on a CPU the
convolutions that its library gets wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from wardround.client.training.devices import no_device
from wardround.common.config.load import Config
from wardround.common.settings import TrainingTable

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FIRST_SCALE = 2.0**10
"""Low enough that a round, which begins anew, loses hardly a step in finding its scale."""
_OVER_VOLUMES = (torch.conv3d, torch.conv_transpose3d)
_AXES = {torch.conv1d: 1, torch.conv_transpose1d: 1, torch.conv2d: 2, torch.conv_transpose2d: 2}


def check_precision(config: Config) -> None:
    """Raise ConfigError, by key and mend, for a precision that can't be had here."""
    training = config.training
    if why := no_device(training.device):
        raise config.error("training.device", f"{training.device!r:.40} is {why}")
    if training.precision != "fp16":
        return
    if torch.device(training.device).type != "cuda":
        raise config.error(
            "training.precision",
            f"'fp16' needs a GPU, and training.device is '{training.device}'; set 'bf16' or "
            "'float32'",
        )
    if config.privacy.unit in ("example", "patient"):
        raise config.error(
            "training.precision",
            "'fp16' scales losses by what the rows' gradients are, which no noise covers; with "
            f"privacy.unit = '{config.privacy.unit}' set 'bf16' or 'float32'",
        )


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


def make_scaler(training: TrainingTable) -> torch.amp.GradScaler | None:
    """For fp16, whose gradients would vanish unscaled: grows and shrinks a factor on the loss, and
    leaves out a step whose gradients overflow. It counts as a step."""
    if training.precision != "fp16":
        return None
    kind = torch.device(training.device).type
    return torch.amp.GradScaler(kind, init_scale=_FIRST_SCALE)
