"""Which sums this hospital has, by name and shape: worked out on none of its rows.

Layouts are told in clear. Worked out on rows they, and above all what fails while they are, would
be an answer about these rows to whatever totals and model the server chose.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from wardround.client.data.hospital import Hospital
from wardround.client.privacy.sizes import announced_sizes
from wardround.client.requests.received import ModelCache
from wardround.client.secagg.masking import is_secure
from wardround.client.training.evaluation import model_outputs
from wardround.common.errors import RequestRefused, WardroundError, reason_of
from wardround.common.figures.sums import Sums
from wardround.common.figures.within import own_sums
from wardround.common.privacy.figures import figure_sums, figures_covered
from wardround.common.protocol.names import HELD_OUT
from wardround.common.tasks.base import Examples

log = logging.getLogger("wardround.client")
_WITHOUT_ROWS = (
    "this hospital's task can't tell its sums without rows: {methods} must work on none, and give "
    "names and shapes of all their sums then (docs/tasks.md); its own log says what failed"
)


def statistics_layout(hospital: Hospital, phase: int, totals: Sums) -> Sums:
    """The sums of a phase after the first, over no rows; of this hospital's columns.

    Raises RequestRefused, in fixed words, where the task can't do without rows; DataError where
    there are none to train on.
    """
    hospital.training_part()
    before = hospital.laid_out
    if before is not None and before[0] == phase and before[1] is totals:
        return before[2]  # it was told in one request, and is held against the next one
    with fixed_words("statistics()"):
        none = hospital.without_rows()["train"]
        sums = hospital.task.statistics(none, phase, totals)
    hospital.laid_out = phase, totals, sums
    return sums


def metrics_layout(
    hospital: Hospital, totals: Sums, digest: str, models: ModelCache
) -> dict[str, Sums]:
    """By split, metric sums of the hospital's own first model over no rows. Raises RequestRefused
    as ``statistics_layout``."""
    if figures_covered(hospital.config, hospital.task):
        sizes = announced_sizes(hospital)
        of_each = private_layout(hospital, totals, digest, models)
        return {split: of_each for split in HELD_OUT if sizes[split]}
    task, found = hospital.task, dict[str, Sums]()
    training = hospital.config.training.model_copy(update={"compile": False})
    within = task.figure_table().within() if is_secure(hospital) else []
    with fixed_words("prepare() and metrics()"):
        parts = hospital.without_rows()
        model, _ = models.get(hospital, totals, digest)
        for split in HELD_OUT:
            if split in parts and hospital.takes_part(split):
                none = task.prepare(parts[split], totals, parts.get("train", parts[split]))
                outputs = model_outputs(model, _blank(none), training)[:0]
                found[split] = task.metrics(outputs, none.targets) | own_sums({}, within)
    return found


def private_layout(hospital: Hospital, totals: Sums, digest: str, models: ModelCache) -> Sums:
    """The figure sums of a split, over no rows, in a private evaluation: the same of each, whether
    the hospital has rows of it or not. Raises RequestRefused as ``statistics_layout``."""
    task, training = hospital.task, hospital.config.training.model_copy(update={"compile": False})
    measure = figure_sums(hospital.config, task, totals)
    with fixed_words("prepare(), metrics() and private_sums()"):
        part = next(iter(hospital.without_rows().values()))
        model, _ = models.get(hospital, totals, digest)
        none = task.prepare(part, totals, part)
        return measure.sums(model_outputs(model, _blank(none), training)[:0], none.targets)


def _blank(none: Examples) -> Examples:
    """One example of zeros, of the form of ``none``: few models take a batch of no rows."""
    inputs, targets = (torch.zeros(1, *x.shape[1:], dtype=x.dtype) for x in vars(none).values())
    return Examples(inputs, targets)


@contextmanager
def fixed_words(methods: str) -> Iterator[None]:
    """What fails inside is told in words that depend on nothing."""
    try:
        yield
    except Exception as error:
        log.warning("names and shapes of sums can't be told: %s", reason_of(error))
        if not isinstance(error, WardroundError):
            log.debug("a layout failed", exc_info=error)
        raise RequestRefused(_WITHOUT_ROWS.format(methods=methods)) from None
