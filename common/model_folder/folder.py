"""A model folder is opened: its files are those that the list names, and then it can be loaded.

A run directory or a results folder, whose ``model`` it is, will do as well. What was altered is
never loaded; who signed it, and until when it is good, is asked by ``ModelFolder.check``.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from wardround.common.config.load import Config, load_config
from wardround.common.config.task import make_task
from wardround.common.durable.files import writing
from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import ModelRefused
from wardround.common.figures.sums import Sums
from wardround.common.model.saved import HOSPITALS, MODEL, PREPARATION, SavedModel, hospital_path
from wardround.common.model_folder.listed import Listed, digest_of, read_list
from wardround.common.model_folder.schema_file import CONFIG, SCHEMA
from wardround.common.model_folder.schema_file import read_schema as read_schema
from wardround.common.model_folder.write import describe_model, seal_folder
from wardround.common.procedures.finished import outputs_of
from wardround.common.procedures.procedure import Scorer
from wardround.common.results.package import FILES
from wardround.common.run.directory import RunDirectory
from wardround.common.settings import is_built_in, pretrained, pretrained_key
from wardround.common.tasks.base import Task
from wardround.common.tasks.schema import Schema

FOLDER = "model"
"""Of a run directory, and of a results folder."""
_ENCODER = "encoder"
CONFIG_OF_ENCODER = "config.json"
_RUN = "environment.json"
"""What a run directory has and a results folder hasn't."""


class ModelFolder:
    """One finished model. Make one with ``open``.

    Attributes
    ----------
    path : of the folder itself
    listed : what ``files.json`` says
    digest : of ``files.json``: what stands for this model in plans and audit logs
    """

    def __init__(
        self, path: Path, listed: Listed, digest: str, config: Config, task: Task[Any] | None = None
    ) -> None:
        self.path, self.listed, self.digest, self.config = path, listed, digest, config
        self._task = task

    def with_task(self, task: Task[Any]) -> ModelFolder:
        """The same for a task that a program has, as the folder's settings can't make it."""
        return ModelFolder(self.path, self.listed, self.digest, self.config, task)

    @classmethod
    def open(
        cls, path: Path | str, *, task: str = "", encoder: str = "", alone: bool = False
    ) -> ModelFolder:
        """The model in a model folder, a run directory or a results folder.

        task : ``path/to/file.py:Class`` of a task of one's own; code is never taken from the folder
        encoder : the folder of a text model's encoder, or a language model's base (a folder or a
            GGUF file), where it isn't the installed one
        alone : nothing beside the folder is read, even if it is a run's: a run's own settings name
            files of this machine, code too, and no list has them

        Raises ModelRefused if a file was altered or is missing; ConfigError, TaskError.
        """
        folder, run = _found(Path(path))
        run = None if alone else run
        if not (folder / FILES).is_file() and run is not None:
            _describe_older(run)
        data = read_list(folder)
        listed = Listed.read(data, str(folder))
        listed.check_files(folder)
        names = {one.name for one in listed.files}
        for name in (MODEL, PREPARATION, CONFIG, SCHEMA):
            if name not in names:
                raise ModelRefused(f"'{name}' is not in its {FILES}", who=str(folder))
        config = _config(folder, run, names, task, encoder)
        return cls(folder, listed, digest_of(data), config)

    @cached_property
    def schema(self) -> Schema:
        """What the model takes and gives. Raises ModelRefused."""
        return read_schema(self.path)

    @cached_property
    def task(self) -> Task[Any]:
        """Made of the folder's own settings. Raises ConfigError, TaskError."""
        return make_task(self.config) if self._task is None else self._task

    @cached_property
    def totals(self) -> Sums:
        """What the preparation agreed on. Raises CheckpointError."""
        return read_tensors(self.path / PREPARATION)[0]

    def file(self, name: str) -> Path | None:
        """A listed file; None where the list hasn't it, whatever lies in the folder."""
        return self.path / name if any(one.name == name for one in self.listed.files) else None

    @property
    def personal(self) -> list[str]:
        """Names of the entries that stay with each hospital."""
        return self._saved.personal

    def hospitals(self) -> list[str]:
        """Whose whole models are here, where entries are personal."""
        return self._saved.hospitals()

    def module(self, hospital: str | None = None) -> nn.Module:
        """The model in evaluation mode, its outputs in their own unit.

        hospital : whose, where entries are personal: a listed file, or the one that this hospital
            put beside the listed ones when its results came (``client/results/joining.py``)

        Raises CheckpointError with the mend, ModelRefused for another file that isn't listed.
        """
        if hospital is not None and self.personal:
            name = hospital_path(self.path, hospital).relative_to(self.path).as_posix()
            if self.file(name) is None:
                self._check_joined(hospital)
        return self._saved.load(hospital)

    def _check_joined(self, hospital: str) -> None:
        """Raise ModelRefused unless this hospital's whole model lies beside a list that has
        nobody's, and shares the listed values."""
        path = hospital_path(self.path, hospital)
        others = any(one.name.startswith(f"{HOSPITALS}/") for one in self.listed.files)
        if others or not path.is_file():
            known = ", ".join(self.hospitals()[:5]) or "none"
            raise ModelRefused(
                f"the folder holds no model of '{hospital}' (it has: {known})",
                who=str(self.path),
                mend="a hospital's own comes with its results: wardround client results KIT",
            )
        whole, shared = (read_tensors(one)[0] for one in (path, self.path / MODEL))
        own = set(self.personal)
        for name, value in shared.items():
            if name not in whole or not (name in own or np.array_equal(whole[name], value)):
                raise ModelRefused(f"'{name}' in it isn't the model's", who=str(path))

    def trained(self) -> nn.Module:
        """The same of all hospitals together, its outputs as in training: what ``Task.metrics``
        takes, a regression's standardised. Raises CheckpointError."""
        return next(model for _, model in self._saved.each([None]))

    def scorer(self, task: Task[Any], device: str) -> Scorer:
        """As ``FinishedModel`` has it, of ``trained``."""
        module = self.trained()
        return lambda raw, inputs: outputs_of(module, inputs, device)

    def check(self, trusted: Collection[bytes] | None, today: date | None) -> None:
        """Raise ModelRefused unless one of these public keys signed it, and it isn't past its last
        day; None for what isn't to be asked."""
        self.listed.check(str(self.path), trusted, today)

    @cached_property
    def _saved(self) -> SavedModel:
        return SavedModel(self.path, self.task, self.config.federation.seed)


def opened(path: Path, config: Config, alone: bool = False) -> ModelFolder:
    """The model in a folder, for a study of its task: with the copies of what never travels, a
    task's file or an encoder, that the study's settings have here. ``alone``, and what is raised:
    as ``ModelFolder.open``.
    """
    encoder = pretrained(config.task)
    if config.finished_table == "teacher" and _has_encoder(path, alone):
        encoder = ""  # a teacher's may be another than the study's
    own_task = ":" in config.task.name
    return ModelFolder.open(
        path,
        task=str(config.folder / config.task.name) if own_task else "",
        encoder=str(config.folder / encoder) if encoder else "",
        alone=alone,
    )


def _has_encoder(path: Path, alone: bool) -> bool:
    """Whether a text model's encoder is known without the study's settings."""
    folder, run = _found(path)
    return (run is not None and not alone) or (folder / _ENCODER / CONFIG_OF_ENCODER).is_file()


def _found(path: Path) -> tuple[Path, Path | None]:
    """The model's folder, and the run directory that it belongs to, if it does."""
    inside = (path / FOLDER).is_dir() and not (path / MODEL).is_file()
    folder = path / FOLDER if inside else path
    if not folder.is_dir():
        raise ModelRefused(
            "no such folder", who=str(path), mend="name a run, or its model's folder"
        )
    parent = folder.resolve().parent
    # results have a list, whatever else their server has put there; a run has none
    is_run = (parent / _RUN).is_file() and not (parent / FILES).is_file()
    return folder, parent if is_run and folder.name == FOLDER else None


def _config(
    folder: Path, run: Path | None, names: Collection[str], task: str, encoder: str
) -> Config:
    """The settings to load by: a run's own, which know where its files lie, else the folder's."""
    sets = [f"task.name={json.dumps(str(Path(task).resolve()))}"] if task else []
    config = load_config((run or folder) / CONFIG, sets)
    if run is None and not task and not is_built_in(config.task.name):
        raise ModelRefused(
            f"its task, {config.task.name}, is no part of the folder, as code is never taken from "
            "one",
            who=str(folder),
            mend="name your own copy of it: --task path/to/file.py:Class",
        )
    if f"{_ENCODER}/{CONFIG_OF_ENCODER}" in names and not encoder:
        encoder = str(folder / _ENCODER)
    elif run is None and not encoder and (named := pretrained(config.task)):
        what = "base model" if pretrained_key(config.task) == "base_model" else "encoder"
        raise ModelRefused(
            f"its {what}, '{named}', is no part of the folder",
            who=str(folder),
            mend="name your own copy of it: --encoder FOLDER",
        )
    if encoder:
        key = pretrained_key(config.task)
        sets.append(f"task.{key}={json.dumps(str(Path(encoder).resolve()))}")
        config = load_config((run or folder) / CONFIG, sets)
    return config


def _describe_older(run: Path) -> None:
    """A run that was made before there were model folders gets its description now."""
    directory = RunDirectory.open(run)
    summary = directory.summary()
    if not (directory.model / PREPARATION).is_file() or summary.get("status") != "complete":
        raise ModelRefused(
            "the run has no finished model", who=str(run), mend="let it go on to its end"
        )
    config = load_config(directory.config_path)
    with writing(directory.model, "name the model again"):
        totals = read_tensors(directory.model / PREPARATION)[0]
        describe_model(directory.model, config, make_task(config), totals)
        chosen = int(summary.get("chosen_round", 0))
        seal_folder(
            directory.model,
            run=run.name,
            round=chosen,
            identity=None,
            network=config.federation.name,
        )
