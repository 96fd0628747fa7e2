"""Whether a unit's gradient depends on the other units of its batch.

Only then does clipping each unit bound what one more or one less of them changes. Two comparisons,
of losses, norms and of the clipped gradients of some units, summed:

- in *another company*: the rows of the other units are replaced by other rows. Shapes, places and
  random numbers stay the same, so the others alone can change anything;
- in a *smaller* one: the others are gone. What draws random numbers draws others then, so that this
  is done without dropout, and in evaluation mode where a model draws in another way.

A comparison sees the sizes that it is made with: ``sizes``. It can't see what code does at one
certain size, for one certain row or after a thousand calls; comparisons while the model trains
(``make.py``) may.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from wardround.client.gradients.base import Batch, ClippedSum, UnitGradients, select
from wardround.common.rng import seed_torch

AGREES = 2e-3
"""Relative, between batches of different sizes: their matrix products are of other shapes."""
_EXACT, _TIGHT = 1e-3, 1e-4
"""Of a sum, over the bound on one unit; of a norm or loss, relative: at the same shapes."""
_SMALL = 1e-6
_DROPOUTS = {
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout,
    torch.dropout,
}  # fmt: skip
_ATTENTION_DROPOUT = 4
"""Where ``scaled_dot_product_attention`` has its probability."""
_DROPOUT = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout
)  # fmt: skip


def other_company(batch: Batch, only: Tensor) -> Batch:
    """The batch with all rows but those of the units ``only`` (U, bool) replaced by others of it;
    its sum is over these units."""
    own = _rows_of(batch, only)
    place = torch.arange(len(own), device=own.device)
    rows = torch.where(own, place, place.roll(1 + len(own) // 3))
    return replace(batch, inputs=select(batch.inputs, rows), targets=batch.targets[rows], only=only)


def differ(one: ClippedSum, other: ClippedSum, batch: Batch, only: Tensor) -> bool:
    """Whether something of the units ``only`` differs between two sums over them, of batches of the
    same shapes."""
    clipping, own = batch.clipping, _rows_of(batch, only)
    norm = clipping.norm
    bound = float(norm) if isinstance(norm, int | float) else math.hypot(*norm)
    squares = 0.0
    for a, b in zip(one.gradients, other.gradients, strict=True):
        squares += float((a - b).double().square().sum())
    return not (
        math.sqrt(squares) <= _EXACT * bound
        and _close(one.norms[only], other.norms[only], _TIGHT, _SMALL)
        and _close(one.losses[own], other.losses[own], _TIGHT, _SMALL)
    )


def _rows_of(batch: Batch, only: Tensor) -> Tensor:
    """B, bool."""
    return only if batch.units is None else only[batch.units]


def repeated(one: ClippedSum, other: ClippedSum) -> bool:
    """Whether norms and losses of the same batch came out the same."""
    return _close(one.norms, other.norms, _TIGHT, _SMALL) and _close(
        one.losses, other.losses, _TIGHT, _SMALL
    )


def _close(one: Tensor, other: Tensor, relative: float, absolute: float) -> bool:
    return torch.allclose(one, other, relative, absolute, equal_nan=True)


def half(units: int, number: int, device: torch.device) -> Tensor:
    """U, bool: a half of the units, rounded up, another one for each ``number``."""
    order = torch.randperm(units, generator=torch.Generator().manual_seed(number))
    chosen = torch.zeros(units, dtype=torch.bool)
    chosen[order[: (units + 1) // 2]] = True
    return chosen.to(device)


def mixes_in_company(engine: UnitGradients, batch: Batch) -> bool:
    """Whether units of this batch depend on the others', in the mode in which the model stands.

    A difference that is gone without dropout was one of its draws: a model that cuts a batch to its
    longest text draws more numbers where others are longer.
    """
    if not _mixes_in_company(engine, batch):
        return False
    with quiet(engine.model):
        return _mixes_in_company(engine, batch)


def differs_in_company(engine: UnitGradients, batch: Batch, only: Tensor) -> bool:
    """Whether the units ``only`` (U, bool) have other losses, norms or gradients in other company,
    without dropout."""
    with quiet(engine.model):
        one = seeded(engine, replace(batch, only=only))
        return differ(one, seeded(engine, other_company(batch, only)), batch, only)


def _mixes_in_company(engine: UnitGradients, batch: Batch) -> bool:
    """Each half is looked at in other company, so what goes from any unit to any other is seen but
    for two of the same half; the halves' sums together are the batch's.
    """
    first, wanted = half(batch.count, 0, batch.targets.device), seeded(engine, batch)
    one, two = (seeded(engine, other_company(batch, only)) for only in (first, ~first))
    own = _rows_of(batch, first)
    together = [a + b for a, b in zip(one.gradients, two.gradients, strict=True)]
    norms = torch.where(first, one.norms, two.norms)
    losses = torch.where(own, one.losses, two.losses)
    found = ClippedSum(together, norms, losses, 0)
    return differ(wanted, found, batch, torch.ones_like(first))


def mixes_in_smaller(engine: UnitGradients, batch: Batch) -> bool:
    """Whether units of this batch have other losses or norms in smaller ones."""
    with quiet(engine.model):
        whole = seeded(engine, batch)
        if repeated(whole, seeded(engine, batch, 1)):
            return _smaller(engine, batch, whole)
    if mixes_in_company(engine, batch):
        return True
    with evaluating(engine.model):
        return _smaller(engine, batch, seeded(engine, batch))


def _smaller(engine: UnitGradients, batch: Batch, whole: ClippedSum) -> bool:
    device, known = batch.targets.device, whole.norms[torch.isfinite(whole.norms)]
    scale = float(known.median()) if len(known) else 0.0
    owners = torch.arange(batch.count, device=device) if batch.units is None else batch.units
    for units in sizes(batch.count):
        order = torch.randperm(batch.count, generator=torch.Generator().manual_seed(units))
        chosen = order[:units].to(device)
        number = torch.full((batch.count,), -1, device=device)
        number[chosen] = torch.arange(units, device=device)
        rows = torch.nonzero(number[owners] >= 0)[:, 0]
        if not len(rows):
            continue
        part = replace(
            batch,
            inputs=select(batch.inputs, rows),
            targets=batch.targets[rows],
            units=number[owners[rows]],
            count=units,
        )
        found = seeded(engine, part)
        norms, losses = whole.norms[chosen], whole.losses[rows]
        if not _close(found.norms, norms, AGREES, AGREES * scale + _SMALL):
            return True
        if not _close(found.losses, losses, AGREES, 1e-5):
            return True
    return False


def sizes(units: int) -> Iterator[int]:
    """Numbers of units that a batch of ``units`` is compared with: up to 5 all, then a power of two
    and the odd number after it.

    >>> list(sizes(20))
    [1, 2, 3, 4, 5, 8, 9, 16, 17]
    """
    seen = [1, 2, 3]
    power = 4
    while power < units:
        seen += [power, power + 1]
        power *= 2
    yield from (size for size in seen if size < units)


def repeated_rows(batch: Batch, size: int) -> Batch:
    """The batch with its rows again, as other units, until it has ``size``."""
    length = len(batch.targets)
    place = torch.arange(size, device=batch.targets.device)
    rows, turn = place % length, place // length
    units = rows if batch.units is None else batch.units[rows]
    count = batch.count * math.ceil(size / length)
    return replace(
        batch,
        inputs=select(batch.inputs, rows),
        targets=batch.targets[rows],
        units=units + turn * batch.count,
        count=count,
    )


def seeded(engine: UnitGradients, batch: Batch, seed: int = 0) -> ClippedSum:
    """The sum under random numbers of its own; torch's generators are left as they were."""
    with forked(batch.targets.device):
        seed_torch(seed, batch.targets.device)
        return engine.sum_of(batch)


def forked(device: torch.device) -> AbstractContextManager[None]:
    """Within it random numbers are drawn that those after it don't depend on."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, without dropout; after it every module is in its own mode again."""
    with _in_evaluation(model, nn.Module):
        yield


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Without the dropout of torch's own layers and functions; else in the mode in which it
    stands."""
    with _in_evaluation(model, _DROPOUT), _NoDropout():
        yield


class _NoDropout(TorchFunctionMode):
    """Torch's functions for dropout give what they are given."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _DROPOUTS:
            return kwargs.get("input", args[0] if args else None)
        if func is F.scaled_dot_product_attention:
            if len(args) > _ATTENTION_DROPOUT:
                args = (*args[:_ATTENTION_DROPOUT], 0.0, *args[_ATTENTION_DROPOUT + 1 :])
            else:
                kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)


@contextmanager
def _in_evaluation(
    model: nn.Module, kind: type[nn.Module] | tuple[type[nn.Module], ...]
) -> Iterator[None]:
    modes = {module: module.training for module in model.modules() if isinstance(module, kind)}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
