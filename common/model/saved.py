"""What a saved model holds: said once, for whoever writes, reads or starts from one.

A file has every entry that the forward pass needs and that isn't elsewhere:

* what the hospitals share;
* frozen entries, but for those that all parties read from files of their own
  (``Task.from_files``): these are pinned by a digest;
* with ``hospital``, what is personal to that one. Without, personal entries are left out, and the
  file's state says so: their first values were never trained. Where each hospital has a whole model
  of its own, the file without is the shared one, whose figures nobody has measured: its state
  names all entries.

``model/model.safetensors`` of a run is what is shared; where entries are personal,
``model/hospitals/NAME.safetensors`` is the whole model of each hospital.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import numpy as np
from torch import Tensor, nn

from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.errors import CheckpointError
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays, digest_arrays, layout_of
from wardround.common.model.entries import SHARED, Entries, Kind
from wardround.common.model.named import build_model, load_arrays, model_arrays, to_numpy
from wardround.common.tasks.base import Task
from wardround.common.tasks.low_rank import LowRank

MODEL, PREPARATION, HOSPITALS = "model.safetensors", "preparation.safetensors", "hospitals"
"""In the folder ``model`` of a run; the last one is a folder."""
PERSONAL, PINNED, SEED, HOSPITAL, INPUTS = "personal", "pinned", "seed", "hospital", "inputs"
"""Keys of a file's state, each where it says something."""
_NAMED = 5

Name = TypeVar("Name", str, None, str | None)


@dataclass(frozen=True)
class ModelForm:
    """What a file of one model must hold.

    entries : the kind of every entry
    frozen : the frozen entries' values, that are stored
    elsewhere : those that are pinned
    low_rank : factors that aren't simply averaged, if the model has any
    inputs : what the columns of the model's first weights stand for, where the task names them
    """

    entries: Entries
    frozen: Arrays
    elsewhere: Arrays
    low_rank: LowRank | None = None
    inputs: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, task: Task[Any], model: nn.Module, entries: Entries, totals: Sums | None = None
    ) -> ModelForm:
        """The form of this model, which is as the task made it.

        totals : the preparation's, where the form is to write files: they name its inputs
        """
        values = entries.only(model.state_dict(), Kind.FROZEN)
        factors = task.low_rank(model)
        inputs = () if totals is None else tuple(task.input_names(totals))
        if not values:
            return cls(entries, {}, {}, factors, inputs)
        pinned = set(task.from_files(model))
        stored = {k: np.array(_numpy(v)) for k, v in values.items() if k not in pinned}
        elsewhere = {k: _numpy(v) for k, v in values.items() if k in pinned}
        return cls(entries, stored, elsewhere, factors, inputs)

    @property
    def frozen_digest(self) -> str:
        """Of what every party makes by itself and must be equal; '' where there is nothing."""
        return digest_arrays(self.frozen) if self.frozen else ""

    def pin(self) -> str:
        """Of what is read from files of each party's own; '' where there is nothing."""
        return digest_arrays(self.elsewhere) if self.elsewhere else ""

    def names(self, hospital: bool) -> list[str]:
        """Names of all arrays of a file; ``hospital``: of one hospital's."""
        kinds = (*SHARED, Kind.PERSONAL) if hospital else SHARED
        return [*self.entries.names(*kinds), *self.frozen]

    def write(
        self, path: Path, arrays: Arrays, server_round: int, seed: int, hospital: str = ""
    ) -> None:
        """Write a model file.

        arrays : values of the shared entries; with ``hospital`` also of its personal ones
        """
        state: dict[str, Any] = {"round": server_round}
        if self.inputs:
            state[INPUTS] = list(self.inputs)
        if own := self.entries.of_hospitals:
            state |= {HOSPITAL: hospital} if hospital else {PERSONAL: own}
        if self.frozen or self.elsewhere:
            state |= {SEED: seed, PINNED: self.pin()}
        values = arrays | self.frozen
        write_tensors(path, {name: values[name] for name in self.names(bool(hospital))}, state)

    def check(self, path: Path, arrays: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Raise CheckpointError unless a file's content is this model, whole: every array that it
        needs, none that it doesn't know, and trained over the files that are pinned."""
        wanted, found = self.names(hospital=True), set(arrays)
        if lacking := [name for name in wanted if name not in found]:
            raise CheckpointError(f"{path}: it lacks {listed(lacking)}, which the model needs")
        if foreign := sorted(found - set(wanted)):
            raise CheckpointError(f"{path}: {listed(foreign)} in it isn't in the task's model")
        if state.get(PINNED, "") != self.pin():
            raise CheckpointError(
                f"{path}: the model was trained over other files of the task's own (an encoder, a "
                "base model or its base_dtype) than are here; bring those back, or name them in "
                "[task]"
            )


class SavedModel:
    """A run's folder ``model``, and models loaded from it.

    Parameters
    ----------
    task, seed : of the run
    """

    def __init__(self, folder: Path, task: Task[Any], seed: int) -> None:
        self._folder, self._task, self._seed = folder, task, seed

    @property
    def personal(self) -> list[str]:
        """Names of the entries that are each hospital's own."""
        return list(read_tensors(self._folder / MODEL)[1].get(PERSONAL, []))

    @property
    def _totals(self) -> Sums:
        return read_tensors(self._folder / PREPARATION)[0]

    def hospitals(self) -> list[str]:
        """Whose whole models are here."""
        files = (self._folder / HOSPITALS).glob("*.safetensors")
        return sorted(unquote(file.name.removesuffix(".safetensors")) for file in files)

    def load(self, hospital: str | None = None) -> nn.Module:
        """The model in evaluation mode, with outputs in their own unit (``Task.predictor``); where
        entries are personal, that of this hospital.

        Raises CheckpointError, with the mend, if no hospital is named where one must be, or if a
        file isn't the whole model of this task.
        """
        model = next(model for _, model in self.each([hospital]))
        return self._task.predictor(model, self._totals)

    def each(self, names: Iterable[Name]) -> Iterator[tuple[Name, nn.Module]]:
        """The hospitals' models as they were trained, one after the other: the same module, loaded
        anew, so use each before asking for the next. Outputs are as in training, a regression's
        standardised; ``load`` gives them in their own unit."""
        model, last = build_model(self._task, self._totals, self._seed), Path()
        for name in names:
            path = self._path(name)
            if path != last:
                load_file(path, self._task, model)
            last = path
            yield name, model.eval()

    def _path(self, hospital: str | None) -> Path:
        personal = self.personal
        if not personal:
            return self._folder / MODEL
        known = self.hospitals()
        if hospital is None:
            raise CheckpointError(
                f"{self._folder / MODEL}: {listed(personal)} stay with each hospital, so there is "
                f"no one model; name the hospital ({listed(known) or 'each has its own'}), in "
                "Python: result.model_of(name)"
            )
        path = hospital_path(self._folder, hospital)
        if not path.exists():
            raise CheckpointError(
                f"{path}: there is no model of '{hospital}'; those of {listed(known)} are here"
            )
        return path


def hospital_path(folder: Path, name: str) -> Path:
    """Where the whole model of a hospital stands in the folder ``model`` of a run."""
    return folder / HOSPITALS / f"{quote(name, safe=' ')}.safetensors"


def load_file(path: Path, task: Task[Any], model: nn.Module) -> None:
    """Load a file of ``ModelForm.write`` into a model that the task has made.

    Raises CheckpointError if it isn't the whole of that model.
    """
    arrays, state = read_tensors(path)
    if personal := state.get(PERSONAL):
        why = "stay with each hospital and aren't in it"
        if not set(personal) - set(arrays):
            why = "are the shared ones, and each hospital's model has its own"
        raise CheckpointError(
            f"{path}: {listed(personal)} {why}; load a hospital's own file, "
            f"{HOSPITALS}/NAME.safetensors"
        )
    form = ModelForm.of(task, model, Entries.of(model))
    form.check(path, arrays, state)
    own = model_arrays(model) | form.frozen
    if layout_of(arrays) != layout_of({name: own[name] for name in arrays}):
        raise CheckpointError(
            f"{path}: its arrays have other shapes or types than the task's model"
        )
    same = {name for name in form.frozen if np.array_equal(form.frozen[name], arrays[name])}
    load_arrays(model, {name: value for name, value in arrays.items() if name not in same})


def write_preparation(folder: Path, totals: Sums) -> None:
    """The totals that a model needs, beside it."""
    write_tensors(folder / PREPARATION, totals, {})


def _numpy(value: Tensor) -> Any:
    return to_numpy(value)


def listed(names: Sequence[str]) -> str:
    """The first few names, in a line."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
