"""A first model that isn't random: arrays of an earlier run's model, or of any safetensors file.

An array is taken where name and shape are the model's own; all others keep their initial values.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from wardround.common.config.load import Config
from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import CheckpointError, ConfigError
from wardround.common.flower.arrays import Arrays, encoded_view
from wardround.common.model.saved import PERSONAL, PINNED, SEED, ModelForm

KEY = "federation.initial"
_NAMED = 5


@dataclass(frozen=True)
class WarmStart:
    """A model's arrays with those of a file over them.

    taken : names of the arrays that are the file's
    left : why others aren't, by name
    """

    arrays: Arrays
    taken: list[str]
    left: dict[str, str]

    def line(self, file: str) -> str:
        """What a user should know of it, with the names of the first few that were left."""
        text = f"initial model: {len(self.taken)} of {len(self.arrays)} arrays are from {file}"
        if not self.left:
            return text
        named = [f"{name} ({why})" for name, why in list(self.left.items())[:_NAMED]]
        more = f" and {len(self.left) - _NAMED} more" if len(self.left) > _NAMED else ""
        return f"{text}; not taken: {', '.join(named)}{more}"


@dataclass(frozen=True)
class Initial:
    """The arrays of ``federation.initial``."""

    path: Path
    arrays: Arrays
    config: Config
    state: dict[str, Any] = field(default_factory=dict)

    def over(self, own: Arrays, form: ModelForm) -> WarmStart:
        """``own`` with the file's arrays where they fit.

        form : of the model; what is personal in it each hospital starts itself

        Raises ConfigError for an array of another kind of number, or one that isn't finite, and for
        a run's model over frozen entries that aren't this run's.
        """
        arrays, taken, left = dict(own), [], dict[str, str]()
        there = set(self.state.get(PERSONAL, []))
        for name, value in own.items():
            found = self.arrays.get(name)
            if name in form.entries.personal:
                left[name] = "stays at each hospital"
            elif found is None and name in there:
                left[name] = "stayed at each hospital; start from the file of one"
            elif found is None:
                left[name] = "not in the file"
            elif found.shape != value.shape:
                left[name] = f"{list(found.shape)} in the file, {list(value.shape)} in the model"
            else:
                arrays[name] = encoded_view(self._converted(name, found, value.dtype))
                taken.append(name)
        left |= self._frozen(form)
        for name in self.arrays:
            if name not in own and name not in form.frozen:
                left[name] = "not in the model"
        return WarmStart(arrays, taken, left)

    def _frozen(self, form: ModelForm) -> dict[str, str]:
        """Frozen entries that aren't the file's, and why: every party makes them by itself."""
        left = {}
        for name, value in form.frozen.items():
            found = self.arrays.get(name)
            if found is None:
                left[name] = "frozen, and not in the file"
            elif not np.array_equal(found, value):
                left[name] = "frozen, with other values"
        of_run, pin = PINNED in self.state, form.pin()
        if of_run and left:
            seed = self.state.get(SEED)
            raise self.config.error(
                KEY,
                f"{self.path}: {next(iter(left))} is frozen and isn't this run's, so it would be "
                f"another model; set federation.seed = {seed}, the seed of the file's run",
            )
        if of_run and pin and self.state[PINNED] not in ("", pin):
            raise self.config.error(
                KEY,
                f"{self.path}: it was trained over other files of the task's own (an encoder, a "
                "base model or its base_dtype) than are named in [task]; name those there",
            )
        return left

    def first(self, own: Arrays, form: ModelForm) -> WarmStart:
        """``over``, for a federation: raises ConfigError if nothing fits."""
        found = self.over(own, form)
        if not found.taken:
            there, here = next(iter(self.arrays), "none"), next(iter(own), "none")
            raise self.config.error(
                KEY,
                f"{self.path}: no array of the model is in it (it has '{there}' and so on, the "
                f"model '{here}'); give a run's model/model.safetensors of the same task",
            )
        return found

    def record(self, found: WarmStart) -> dict[str, Any]:
        """What ``run.json`` keeps of it."""
        digest = file_digest(self.path)
        taken, left = len(found.taken), found.left
        return {"file": str(self.path.resolve()), "sha256": digest, "taken": taken, "left": left}

    def _converted(self, name: str, value: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        if value.dtype.kind != dtype.kind:
            raise self.config.error(
                KEY, f"{self.path}: '{name}' is {value.dtype}, the model's is {dtype}"
            )
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(value.astype(dtype)).reshape(value.shape)
        if dtype.kind == "f" and not np.isfinite(converted).all():
            raise self.config.error(
                KEY, f"{self.path}: '{name}' has values that are no finite {dtype}"
            )
        if dtype.kind != "f" and not np.array_equal(converted, value):
            raise self.config.error(KEY, f"{self.path}: '{name}' has values outside {dtype}")
        return converted


def read_initial(config: Config) -> Initial | None:
    """The file of ``federation.initial``; None if there is none. Raises ConfigError by key."""
    if not config.federation.initial:
        return None
    path = config.folder / config.federation.initial
    if path.is_dir():
        mend = "name the weights in it, as model/model.safetensors of a run"
        raise config.error(KEY, f"{path}: is a folder; {mend}")
    try:
        arrays, state = _read(path, config)
        return Initial(path, arrays, config, state)
    except FileNotFoundError:
        raise config.error(KEY, f"{path}: no such file") from None
    except (OSError, SafetensorError, CheckpointError) as error:
        why = "altered or torn" if isinstance(error, CheckpointError) else "no safetensors file"
        raise config.error(KEY, f"{path}: can't be read ({why})") from None


def file_digest(path: Path) -> str:
    """SHA-256 of the file, hexadecimal. Raises ConfigError if it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror})") from None


def _read(path: Path, config: Config) -> tuple[Arrays, dict[str, Any]]:
    """The file's arrays; with its checksum and state, if it is one of ours. Raises ConfigError for
    numbers that numpy has no type for."""
    with safe_open(path, framework="pt") as file:
        if "wardround" in (file.metadata() or {}):
            return read_tensors(path)
        arrays = {}
        for name in file.keys():
            tensor = file.get_tensor(name)  # numpy has no bfloat16
            tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
            try:
                arrays[name] = tensor.numpy()
            except TypeError:
                kind = str(tensor.dtype).removeprefix("torch.")
                why = f"'{name}' is {kind}, which isn't read; save it as float32"
                raise config.error(KEY, f"{path}: {why}") from None
        return arrays, {}
