"""Which predictor a finished model has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wardround.common.config.task import make_task
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.predict.predictor import Predictor
from wardround.common.tasks.schema import LANGUAGE

if TYPE_CHECKING:
    from wardround.common.tasks.own_model import OwnModel


def load_model(
    folder: Path | str,
    hospital: str | None = None,
    *,
    own_rows: Any = None,
    device: str = "cpu",
    task: str = "",
    encoder: str = "",
    model: OwnModel | None = None,
) -> Predictor:
    """A finished model that predicts: of a run directory, a results folder, or a model folder.

    Parameters
    ----------
    hospital : whose, where entries are personal (``strategy.personal_layers``, ``fedbn``)
    own_rows : the hospital's own training rows, or the path of its shard, where the model is
        prepared by them (``task.normalise = "local"``)
    task : ``path/to/file.py:Class`` of a task of one's own, where the folder is alone
    encoder : the folder of a text model's encoder, where it isn't the installed one
    model : what ``simulate(model=...)`` was given, where the model was a program's own

    Raises ModelRefused for a folder that was altered, CheckpointError for a file that isn't the
    whole model; ConfigError and TaskError for a task that can't be made here, or needs own rows.

    >>> from wardround.simulations import load_model, simulate
    >>> result = simulate(overrides=["federation.rounds=1", "simulation.baselines=false"])
    >>> model = load_model(result.run_directory)
    >>> model.module.training, model.module.weight.shape
    (False, torch.Size([1, 30]))
    """
    opened = ModelFolder.open(folder, task=task, encoder=encoder)
    if model is not None:
        opened = opened.with_task(make_task(opened.config, model))
    return predictor_of(opened, hospital, own_rows=own_rows, device=device)


def predictor_of(
    opened: ModelFolder, hospital: str | None = None, *, own_rows: Any = None, device: str = "cpu"
) -> Predictor:
    """The predictor of an opened folder; see ``load_model``."""
    if opened.schema.kind == LANGUAGE:
        from wardround.common.predict.language import LanguagePredictor  # brings transformers

        return LanguagePredictor(opened, hospital, own_rows=own_rows, device=device)
    return Predictor(opened, hospital, own_rows=own_rows, device=device)
