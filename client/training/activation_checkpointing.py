"""Activations of repeated blocks are computed again in the backward pass instead of kept.

Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): memory for a second forward pass. The
gradients are the same, also through dropout, whose draws are repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from wardround.common.errors import TaskError
from wardround.common.model.precision import WholeConvolutions


@contextmanager
def recomputing(model: nn.Module) -> Iterator[None]:
    """Inside, the model's blocks don't keep their activations; afterwards it is as it was.

    A model of transformers does it in its own way. Elsewhere blocks are elements with layers of
    their own in the outermost nn.Sequential or nn.ModuleList that has several of them.

    Raises TaskError if there are no such blocks, or batch normalisation is in one: its running
    statistics would be updated twice.
    """
    with ExitStack() as opened:
        found = list(_own_ways(model))
        for module, name in found:
            getattr(module, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
            opened.callback(getattr(module, f"{name}_disable"))
        for path, block in [] if found else blocks(model):
            _check(path, block)
            block.forward = partial(_recomputed, block.forward)
            opened.callback(block.__delattr__, "forward")
        yield


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # torch enters autocast again for the second forward pass, but no other context
    if torch.is_autocast_enabled("cpu"):
        kwargs["context_fn"] = _second_pass
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def _second_pass() -> tuple[AbstractContextManager[None], AbstractContextManager[Any]]:
    return nullcontext(), WholeConvolutions()


def blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The repeated blocks, by path: of nested ones the outermost, since what lies within is
    computed again with it. Raises TaskError if there are none."""
    found = list(_blocks_of("", model))
    if not found:
        raise TaskError(
            "training.checkpoint_activations: the model has no repeated blocks (elements with "
            "layers of their own in an nn.Sequential or nn.ModuleList); set it to false"
        )
    return found


def _blocks_of(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    dot = f"{path}." if path else ""
    children = [(f"{dot}{name}", child) for name, child in module.named_children()]
    if isinstance(module, nn.Sequential | nn.ModuleList):
        elements = [(name, child) for name, child in children if _is_block(child)]
        if len(elements) > 1:
            yield from elements
            return
    for name, child in children:
        yield from _blocks_of(name, child)


def _is_block(module: nn.Module) -> bool:
    """Layers of its own: a single layer's input is kept anyway, and its output is the next's."""
    return any(True for _ in module.children()) and any(True for _ in module.parameters())


def _own_ways(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """The outermost modules that know how to do it themselves, and what they call it."""
    if getattr(module, "supports_gradient_checkpointing", False):
        for name in ("activation_checkpointing", "gradient_checkpointing"):  # the new name first
            if hasattr(module, f"{name}_enable") and hasattr(module, f"{name}_disable"):
                yield module, name
                return
    for child in module.children():
        yield from _own_ways(child)


def _check(path: str, block: nn.Module) -> None:
    for name, module in block.named_modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            where = f"{path}.{name}" if name else path
            raise TaskError(
                f"training.checkpoint_activations: layer '{where}' ({type(module).__name__}) would "
                "update its running statistics twice; use layer or group normalisation, or set it "
                "to false"
            )
