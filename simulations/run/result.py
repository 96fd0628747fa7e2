"""What a simulation gives: its model, every figure, and what it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from wardround.common.config.load import Config
from wardround.common.figures.figure import FigureTable, is_number
from wardround.common.figures.records import OVERALL, Record, evaluation_of, flat_records
from wardround.common.model.saved import SavedModel
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.names import name_of
from wardround.common.predict.load import predictor_of
from wardround.common.predict.predictions import Predictions
from wardround.common.predict.predictor import Predictor
from wardround.common.tasks.base import Task
from wardround.simulations.given.forms import named_rows
from wardround.simulations.run.comparison import Comparison
from wardround.simulations.run.shown import result_html, result_text


@dataclass(frozen=True)
class Result:
    """What a simulation gives.

    run_directory : where everything was written
    config : the resolved configuration
    rounds : the lines of ``metrics.jsonl``
    comparison : per hospital, then 'mean' and 'overall': figures of local, federated, pooled
    saved : the final (or best) round's model on disk
    round : the one that made it
    figures : what the task's figures are
    task : what made the model of these rows, and predicts others
    notes : what to know of the data and the settings, one line each; of ``simulate(data=...)`` also
        what was decided about them

    >>> from wardround.simulations import simulate
    >>> one_round = ["federation.rounds=1", "simulation.baselines=false"]
    >>> result = simulate(overrides=one_round)
    >>> [row["round"] for row in result.rounds], len(result.rounds[0]["accepted"])
    ([1], 5)
    >>> result.model
    Linear(in_features=30, out_features=1, bias=True)
    >>> result.figure("accuracy", "overall") > 0.8
    True
    """

    run_directory: Path
    config: Config
    rounds: list[dict[str, Any]]
    comparison: Comparison
    saved: SavedModel = field(repr=False)
    round: int
    figures: FigureTable = field(repr=False)
    task: Task[Any] = field(repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        return result_text(self)

    def _repr_html_(self) -> str:
        return result_html(self)

    def predict(
        self,
        rows: Any,
        hospital: str | None = None,
        *,
        keep: Sequence[str] = (),
        own_rows: Any = None,
        device: str = "cpu",
    ) -> Predictions:
        """What the model says of raw rows: prepared as in training, so a column of probabilities
        for each class, or values in the target's own unit.

        Parameters
        ----------
        rows : a data frame, a pyarrow table, a list of dicts, a dict of columns, or a path; an
            array where the data were arrays; for texts and images also a list of them
        hospital : whose model, where entries are personal
        keep : columns of ``rows`` that stand beside the predictions
        own_rows : a path, or the task's own form of the hospital's training rows, where the model
            is prepared by them (``task.normalise = "local"``)

        Raises DataError with all that is wrong with the rows, CheckpointError where a hospital
        must be named.

        >>> from wardround.simulations import simulate
        >>> result = simulate(overrides=["federation.rounds=1", "simulation.baselines=false"])
        >>> row = {one.name: one.mean for one in result.predictor().schema.inputs}
        >>> bool(0 < result.predict([row])["probability"][0] < 1)
        True
        """
        predictor = self.predictor(hospital, own_rows=own_rows, device=device)
        return predictor.predict(named_rows(rows, predictor.schema), keep=keep)

    def predictor(
        self, hospital: str | None = None, *, own_rows: Any = None, device: str = "cpu"
    ) -> Predictor:
        """What ``predict`` uses, to be asked many times; see there."""
        folder = ModelFolder.open(self.run_directory).with_task(self.task)
        own = name_of(hospital) if hospital is not None else None
        return predictor_of(folder, own, own_rows=own_rows, device=device)

    @cached_property
    def model(self) -> nn.Module:
        """The final (or best) global model, in evaluation mode, as it was saved.

        Raises CheckpointError where entries are personal: then each hospital has its own.
        """
        return self.saved.load()

    def model_of(self, hospital: str) -> nn.Module:
        """A hospital's model, in evaluation mode: the global one with its personal entries.

        Raises CheckpointError for a hospital that there is no model of.
        """
        return self.saved.load(name_of(hospital))

    @property
    def records(self) -> list[Record]:
        """Flat rows {round, hospital, split, metric, value}: ``pandas.DataFrame(r.records)``."""
        return flat_records(self.rounds)

    def figure(self, metric: str, hospital: str | None = None, split: str = "test") -> float:
        """A figure of ``model``, which isn't the last round's where the best one was chosen.

        hospital : a name, 'mean' or 'overall'; None: what stands for the model (the hospitals' mean
            where rows of different hospitals must not be ranked against each other)

        Raises KeyError if there is none.
        """
        evaluation = evaluation_of(self.rounds, self.round)
        row = {"train_loss": None, **evaluation}
        records = flat_records([row]) if evaluation else []
        there = {(record["metric"], record["split"]) for record in records}
        found = {
            record["hospital"]: float(record["value"])
            for record in records
            if (record["metric"], record["split"]) == (metric, split)
        }
        if hospital is None:
            stands = self.figures[metric].stands
            hospital = stands if is_number(found.get(stands)) else OVERALL
        for name in (hospital, name_of(hospital)):
            if name in found:
                return found[name]
        if (metric, split) not in there:
            names = ", ".join(sorted({name for name, where in there if where == split}))
            instead = f"there are {names}" if names else f"no {split} rows were asked about"
            raise KeyError(f"no {split} figure '{metric}'; {instead}")
        hidden = any(row.get("hidden") for row in self.rounds) and hospital != OVERALL
        why = "; secure aggregation hides single hospitals, see comparison" if hidden else ""
        raise KeyError(f"no {split} {metric} of {hospital}{why}")
