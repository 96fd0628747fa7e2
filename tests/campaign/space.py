"""What the campaign may set: every key of the configuration's own models, with values.

A new key joins by itself: its values follow from its type and range. A key that can't join stands
in ``LEFT_OUT`` with the reason, and a test holds that every other one has values.
"""

from __future__ import annotations

import math
import types
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tests.campaign.looks import looked
from wardround.common.config.load import Config
from wardround.common.settings.strategies import STRATEGIES
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.text.options import TextOptions

TASKS: dict[str, type[BaseModel]] = {
    "binary": TabularOptions,
    "multiclass": TabularOptions,
    "regression": TabularOptions,
    "survival": TabularOptions,
    "images2d": ImagingOptions,
    "images3d": ImagingOptions,
    "entities": TextOptions,
    "texts": TextOptions,
    "labels": TextOptions,
    "answers": TextOptions,
}
LEFT_OUT = {
    "federation.name": "names the run directory, no more",
    "federation.runs": "each run has a place of its own",
    "federation.round_timeout_s": "in one process nobody is late: tests/deployment",
    "federation.retry_wait_s": "a pause and nothing else",
    "task.name": "the consortium's",
    "task.kind": "the consortium's",
    **{
        f"task.columns.{key}": "names a column of the consortium's"
        for key in ("target", "time", "event", "patient_id", "text", "label", "answer", "messages")
        + ("prompt", "response", "choices")
    },
    "task.columns.split": "the files say no split: tests/simulations/run/test_given_split.py",
    "task.entities": "holds texts of the data",
    "task.encoder": "the consortium's",
    "task.base_model": "the consortium's",
    "task.chat_template": "language models: tests/common/tasks/text/causal",
    "task.files": "the consortium's",
    "task.model.kind": "networks other than the small one take too long; tables: GIVEN has it",
    "task.model.hidden": "tables: GIVEN has it",
    "task.model.stem": "of resnet18 only",
    "training.device": "no other one here",
    "training.processes": "has no effect in a simulation: tests/client/training",
    "training.compile": "takes a minute: tests/client/training",
    "strategy.name": "GIVEN has it",
    "strategy.personal_layers": "GIVEN has it",
    "evaluation.clients": "GIVEN has it",
    "simulation.vertical_overlap": "of partitions",
    "simulation.baselines": "GIVEN has it",
    "simulation.threads": "torch's own, which wait for each other where the machine is busy",
    "simulation.executor": "crossed with every case",
    "simulation.ray_address": "tests/simulations/executors/test_ray.py",
    "secure_aggregation.enabled": "crossed with every case",
    "secure_aggregation.scheme": "a library of an extra encrypts: tests/secagg/test_ckks.py",
    "secure_aggregation.degree": "of that scheme",
    "server": "between machines: tests/deployment",
}
"""Keys, or whole tables, that aren't drawn, and why."""
GIVEN: dict[str, list[Any]] = {
    "federation.clients_per_round": [None, 4],
    "federation.min_clients": [2, 3],
    "federation.buffer": [None, 3, 4],
    "federation.max_staleness": [10, 0, 1],
    "data.test_fraction": [0.3, 0.5],
    "data.validation_fraction": [0.0, 0.2],
    "training.lr": [0.05, 0.005],
    "training.local_steps": [None, 1, 3],
    "training.distillation": [0.0, 0.5],
    "strategy.name": [
        "fedavg", "fedprox", "fedavgm", "fedadam", "fedadagrad", "fedyogi", "fedbn", "scaffold",
        "fednova", "feddyn", "fedmedian", "fedtrimmedavg", "krum", "multikrum", "bulyan",
        "fedper", "fedrep", "ditto", "apfl", "moon",
    ],
    "strategy.personal_layers": [[], ["*bias"]],
    "privacy.epsilon": [None, 30.0],
    "privacy.noise_multiplier": [None, 1.0],
    "privacy.size_noise": [20.0, 100.0],
    "privacy.delta": [1e-5, 1e-3],
    "privacy.epsilon_limit": [None, 25.0],
    "privacy.covers": [None, ["training"]],
    "evaluation.clients": [None, 3],
    "simulation.dropout": [0.0, 0.1],
    "simulation.unmask_dropout": [0.0, 0.1],
    "simulation.feature_noise": [0.0, 0.1],
    "simulation.baselines": [False, True],
    "secure_aggregation.colluding": [0, 1],
    "secure_aggregation.min_cohort": [3, 2],
    "secure_aggregation.threshold": [0.667, 0.75],
    "training.batch_size": [16, 4, 64],
    "task.min_category_count": [3, 1, 6],
    "task.unknown": ["ignore", "refuse"],
    "task.bins": [1000, 100],
    "task.rank": [4, 2],
    "task.target_rank": [None, 2],
}  # fmt: skip
"""Values where those of type and range would say nothing, or end every run. The first is the
default's or the consortium's."""
TABULAR: dict[str, list[Any]] = {
    "task.model.kind": ["logistic", "mlp"],
    "task.model.hidden": [[64, 32], [4], [8, 4]],
}
IMAGES: dict[str, list[Any]] = {
    "task.model.width": [4, 8],
    "task.model.groups": [2, 4],
    "task.augment.rotation": [0.0, 10.0],
    "task.augment.translation": [0.0, 0.1],
    "task.augment.scaling": [0.0, 0.1],
}


def space(kind: str) -> dict[str, list[Any]]:
    """Dotted key to its values for this kind of task, the default (or the consortium's) first."""
    return {key: values for key, values in _all(kind) if values is not None}


def strategy_options(name: str) -> dict[str, list[Any]]:
    """The same for the options of a strategy."""
    fields = STRATEGIES[name].model_fields.items()
    found = {f"strategy.{key}": derived(field) for key, field in fields}
    return {key: values for key, values in found.items() if values}


def without_values(kind: str) -> list[str]:
    """Keys that have no values and aren't left out with a reason."""
    return [key for key, values in _all(kind) if values is None]


def extremes(kind: str) -> Iterator[tuple[str, Any]]:
    """Each number's key with the ends of what a user may type."""
    for key, field in _fields(kind):
        kinds = _alternatives(field.annotation)
        if not _left_out(key) and {int, float} & set(kinds):
            number = float if float in kinds else int
            for value in (-1, 0, 1, 2**31, 2**63 - 1) if number is int else ():
                yield key, value
            for text in (-1.0, 0.0, 1e-300, 0.999, 1.0, 1e308) if number is float else ():
                yield key, text
            if number is float:
                yield key, math.nan


def _all(kind: str) -> Iterator[tuple[str, list[Any] | None]]:
    own = TABULAR if TASKS[kind] is TabularOptions else IMAGES if "images" in kind else {}
    together = looked()
    for key, field in _fields(kind):
        given = own.get(key, GIVEN.get(key))
        if given is not None:
            yield key, given
        elif _within_one_of(key, together):
            continue
        elif not _left_out(key):
            yield key, derived(field)


def _left_out(key: str) -> bool:
    return _within_one_of(key, LEFT_OUT)


def _within_one_of(key: str, tables: Collection[str]) -> bool:
    """Whether it, or a table that it is in, is one of these."""
    parts = key.split(".")
    return any(".".join(parts[:n]) in tables for n in range(1, len(parts) + 1))


def _fields(kind: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, table in Config.model_fields.items():
        model = TASKS[kind] if name == "task" else table.annotation
        if name in ("network", "study", "cohort", "needs", "procedure", "card", "tracking"):
            continue  # who asks what of whom, and where it is found: nothing of what is computed
        if name == "judgement":
            continue  # columns that it names: looks.py
        if name == "teacher":
            continue  # it needs a finished model: tests/simulations/run/test_teacher.py
        assert isinstance(model, type) and issubclass(model, BaseModel)
        yield from _below(name, model)


def _below(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _below(f"{prefix}.{name}", inner)
        else:
            yield f"{prefix}.{name}", field


def _alternatives(annotation: Any) -> list[Any]:
    """The types, or literals' values, that a key may have."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in _alternatives(part)]
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin is Literal:
        return list(get_args(annotation))
    return [annotation]


def derived(field: FieldInfo) -> list[Any] | None:
    """Values from type and range; None where these give none."""
    kinds, default = _alternatives(field.annotation), field.get_default(call_default_factory=True)
    if bool in kinds:
        return [default, not default]
    values: list[Any] = [default]
    values += [kind for kind in kinds if isinstance(kind, str | int) and kind != default]
    for number in (int, float):
        if number in kinds:
            start = default if isinstance(default, int | float) else 1
            more = [start * 2, max(1, start // 2)] if number is int else [start / 4, start * 2]
            if not start:
                more = [2] if number is int else [0.1, 0.5]
            values += [number(x) for x in more if number(x) != default and _within(x, field)]
    return values if len(values) > 1 else None


def _within(value: float, field: FieldInfo) -> bool:
    bounds = [*field.metadata]
    for part in get_args(field.annotation):
        if get_origin(part) is Annotated:
            bounds += [m for x in get_args(part)[1:] for m in getattr(x, "metadata", [x])]
    for bound in bounds:
        low, high = getattr(bound, "gt", None), getattr(bound, "lt", None)
        least, most = getattr(bound, "ge", None), getattr(bound, "le", None)
        if low is not None and not value > low or high is not None and not value < high:
            return False
        if least is not None and value < least or most is not None and value > most:
            return False
    return True
