"""A run is over: its model's card is written, and the model folder listed and signed with it.

The card is made of what may be shown to all that took part, as the package is: it goes with the
model wherever that goes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from wardround.common.calibration.thresholds import THRESHOLDS, thresholds_of
from wardround.common.card.facts import Facts
from wardround.common.card.text import card_text
from wardround.common.config.load import Config
from wardround.common.durable.files import write_atomically
from wardround.common.durable.tensors import read_tensors
from wardround.common.figures.areas import Interval, Z
from wardround.common.figures.figure import MEAN, OVERALL
from wardround.common.figures.records import evaluation_of
from wardround.common.model.saved import MODEL, PREPARATION
from wardround.common.model_folder.folder import read_schema
from wardround.common.model_folder.listed import Listed, read_list
from wardround.common.protocol.names import HELD_OUT
from wardround.common.run.directory import RunDirectory
from wardround.common.run.sums import read_kept, read_sums
from wardround.common.tasks.base import Task
from wardround.server.results.card_notes import card_notes
from wardround.server.results.shared import SMALLEST, shared_rounds, shared_summary
from wardround.server.rounds.finishing import seal_model
from wardround.server.rounds.parts import FederationParts

CARD = "card.md"
"""In a model folder."""


def finish_run(parts: FederationParts, chosen_round: int) -> str:
    """Write thresholds and the card of a complete run's model, and list and sign its folder again.

    Returns the digest of its ``files.json``; '' where the model is at hospitals alone, as of a
    blind run between machines. Raises OSError, ModelRefused, CheckpointError.
    """
    folder = parts.run_directory.model
    if parts.config.secure_aggregation.blind and not (folder / MODEL).is_file():
        return ""
    if chosen := thresholds_text(parts.run_directory, parts.task, chosen_round):
        write_atomically(folder / THRESHOLDS, chosen.encode())
    text = card_text(facts_of(parts.run_directory, parts.config), parts.config.card)
    write_atomically(folder / CARD, text.encode())
    return seal_model(parts, chosen_round)


def thresholds_text(run: RunDirectory, task: Task[Any], chosen_round: int) -> str:
    """``thresholds.json`` by the validation rows, else the test rows; '' where there are none, or
    their figures may not be shown to all."""
    shown = evaluation_of(shared_rounds(run.rounds(), chosen_round), chosen_round)
    for split in HELD_OUT:
        if split in shown.get("overall", {}) and (
            text := thresholds_of(task, read_sums(run, split), split, smallest=SMALLEST)
        ):
            return text
    return ""


def facts_of(run: RunDirectory, config: Config) -> Facts:
    """What a complete run may tell of its model. Raises ModelRefused, CheckpointError."""
    listed = Listed.read(read_list(run.model), str(run.model))
    summary, rounds = run.summary(), run.rounds()
    shown = shared_rounds(rounds, listed.round)
    arrays, _ = read_tensors(run.model / MODEL)
    return Facts(
        config=config,
        schema=read_schema(run.model),
        totals=read_tensors(run.model / PREPARATION)[0],
        summary=shared_summary(summary, rounds, shown),
        rounds=shown,
        run=run.path.name,
        round=listed.round,
        created=listed.created,
        expires=listed.expires,
        simulated=not run.deployed,
        notes=card_notes(run.model),
        spans=_spans(run, evaluation_of(shown, listed.round)),
        parameters=sum(math.prod(one.shape) for one in arrays.values()),
    )


def _spans(
    run: RunDirectory, shown: Mapping[str, Any]
) -> dict[str, dict[str, dict[str, Interval]]]:
    """Intervals of the figures that are shown, and of no others."""
    found, kept = {}, read_kept(run)
    for split, figures in shown.get("overall", {}).items():
        means = shown.get("within", {}).get(split, {})
        within = {
            name: (
                one["mean"] - Z * one["variance"] ** 0.5,
                one["mean"] + Z * one["variance"] ** 0.5,
            )
            for name, one in means.items()
            if "variance" in one
        }
        bounded = {name: (max(0.0, low), min(1.0, high)) for name, (low, high) in within.items()}
        overall = kept.intervals(split, figures) if kept is not None else {}
        found[split] = {MEAN: bounded, OVERALL: overall}
    return found
