"""The tables of ``federation.toml``, each key with its type, range and default.

``common/config.py`` puts them together, and says where in the file a mistake stands.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

HOSPITAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a hospital may be called where its name becomes a folder and a certificate's subject."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Table(BaseModel):
    """Frozen and strict: unknown keys and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FederationTable(Table):
    """``[federation]``: the run as a whole."""

    name: str = Field("federation", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: int = Field(1, ge=0, lt=2**63)
    rounds: int = Field(20, ge=1, le=1_000_000)
    clients_per_round: int | None = Field(None, ge=1)
    min_clients: int = Field(2, ge=1)
    round_timeout_s: Positive = 600.0
    round_attempts: int = Field(3, ge=1, le=100)
    retry_wait_s: float = Field(0.0, ge=0, allow_inf_nan=False)
    initial: str = ""
    runs: str = "runs"


class DataTable(Table):
    """``[data]``: where rows are, and how each hospital splits its own."""

    path: str = ""
    test_fraction: Fraction = 0.3
    validation_fraction: Fraction = 0.0

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> DataTable:
        if self.test_fraction + self.validation_fraction >= 1:
            raise ValueError("test_fraction and validation_fraction together must be below 1")
        return self


class TaskTable(BaseModel):
    """``[task]``: which task, and its own options."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    name: str = "tabular"

    @model_validator(mode="after")
    def _names_its_folders(self) -> TaskTable:
        if is_built_in(self.name):
            for key in TASK_PATHS:
                value = self.options.get(key)
                if value and isinstance(value, str) and _last_part(value).strip() in _UNNAMED:
                    raise ValueError(
                        f"{key}: end the path in the folder's own name, which all parties share"
                    )
        return self

    @property
    def options(self) -> dict[str, Any]:
        """All keys but ``name``, as the task's constructor gets them."""
        return dict(self.model_extra or {})


TASK_PATHS = ("encoder",)
"""Options of built-in tasks that are files or folders, meant from the configuration's folder."""
_UNNAMED = ("", ".", "..")


def is_built_in(task: str) -> bool:
    """Whether the task's name isn't that of a user's own, path/to/file.py:Class."""
    return ":" not in task


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def without_folders(task: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of the task called ``task`` as all parties share them: of a built-in task's path the
    last part, for folders differ."""
    if not is_built_in(task):
        return options
    names = {
        key: _last_part(value) for key in TASK_PATHS if isinstance(value := options.get(key), str)
    }
    return options | names


def absolute_paths(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A built-in task's options with absolute paths; '' and what isn't text stay as they are."""
    paths = {
        key: str((folder / value).resolve())
        for key in TASK_PATHS
        if isinstance(value := options.get(key), str) and value
    }
    return options | paths


Precision = Literal["float32", "bf16", "fp16"]
OWN_TRAINING = (
    "device",
    "processes",
    "precision",
    "micro_batch_size",
    "checkpoint_activations",
    "compile",
)
"""Keys of ``[training]`` that may differ from hospital to hospital: they say how its machine
computes the same steps."""


class TrainingTable(Table):
    """``[training]``: what every hospital does between two aggregations."""

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 0.05
    schedule: Literal["exponential", "constant", "step", "linear", "cosine"] = "exponential"
    lr_decay: float = Field(1.0, gt=0, le=1)
    step_rounds: int = Field(10, ge=1)
    warmup_rounds: int = Field(0, ge=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    batch_size: int = Field(32, ge=1)
    local_epochs: int = Field(1, ge=1)
    local_steps: int | None = Field(None, ge=1)
    max_grad_norm: Positive | None = None
    distillation: float = Field(0.0, ge=0, allow_inf_nan=False)
    distillation_temperature: Positive = 2.0
    device: str = "cpu"
    processes: int = Field(1, ge=1, le=64)
    precision: Precision = "float32"
    micro_batch_size: int | None = Field(None, ge=1)
    checkpoint_activations: bool = False
    compile: bool = False

    @model_validator(mode="after")
    def _has_no_key_without_effect(self) -> TrainingTable:
        if self.lr_decay != 1 and self.schedule not in ("exponential", "step"):
            raise ValueError(
                f"lr_decay has no effect with schedule = '{self.schedule}'; it belongs to "
                "'exponential' and 'step'"
            )
        return self

    @property
    def has_horizon(self) -> bool:
        """Whether the learning rate depends on how many rounds the run has."""
        return self.schedule in ("linear", "cosine")


class StrategyTable(BaseModel):
    """``[strategy]``: how updates become the next model, and the strategy's own options."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    name: str = "fedavg"
    weighting: Literal["auto", "examples", "uniform"] = "auto"
    personal_layers: list[str] = []

    @property
    def options(self) -> dict[str, Any]:
        """The keys that this table doesn't know itself: keyword arguments of the strategy."""
        return dict(self.model_extra or {})


class SecureAggregationTable(Table):
    """``[secure_aggregation]``: the server learns sums over hospitals and nothing else.

    ``min_cohort``, ``colluding`` and ``threads`` are each hospital's own.
    """

    enabled: bool = True
    bits: Literal[16, 32] = 32
    clip: float = Field(8.0, ge=1e-9, le=1e9)
    max_examples: int | None = Field(None, ge=1, lt=2**53)
    threshold: float = Field(0.667, ge=0.5, lt=1)
    colluding: int = Field(0, ge=0)
    min_cohort: int = Field(3, ge=2)
    threads: int = Field(1, ge=1, le=64)


class PrivacyTable(Table):
    """``[privacy]``: differential privacy of an example, a patient or a whole hospital.

    ``epsilon_limit`` is each hospital's own.
    """

    unit: Literal["none", "example", "patient", "hospital"] = "none"
    noise: Literal["local", "distributed", "central"] = "local"
    epsilon: Positive | None = None
    delta: float = Field(1e-5, gt=0, lt=1)
    noise_multiplier: Positive | None = None
    clipping: Literal["flat", "per_layer", "adaptive"] = "flat"
    clipping_norm: Positive = 1.0
    target_quantile: float = Field(0.5, gt=0, lt=1)
    clipping_lr: Positive = 0.2
    records_per_patient: int = Field(32, ge=1)
    size_noise: Positive = 20.0
    epsilon_limit: Positive | None = None

    @model_validator(mode="after")
    def _is_determined(self) -> PrivacyTable:
        if self.unit != "none" and (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError(
                "set either epsilon (the noise follows) or noise_multiplier (epsilon follows)"
            )
        return self

    @property
    def enabled(self) -> bool:
        """Whether anything is protected."""
        return self.unit != "none"

    @property
    def summed(self) -> bool:
        """Examples or patients, protected by noise on the hospitals' summed gradient."""
        return self.unit in ("example", "patient") and self.noise != "local"

    @property
    def stepwise(self) -> bool:
        """Examples or patients, protected by noise in every step of a hospital's own training."""
        return self.unit in ("example", "patient") and self.noise == "local"

    @property
    def limit(self) -> float:
        """The epsilon that a hospital doesn't pass; infinite where nobody set one."""
        return self.epsilon_limit or self.epsilon or math.inf


class EvaluationTable(Table):
    """``[evaluation]``: when hospitals evaluate, and which model is the run's result."""

    every: int = Field(1, ge=1)
    clients: int | None = Field(None, ge=1)
    select: Literal["last", "best"] = "last"
    patience: int = Field(0, ge=0)


class SimulationTable(Table):
    """``[simulation]``: hospitals that exist only on this machine."""

    clients: int = Field(5, ge=1, le=1_000_000)
    partition: Literal[
        "auto",
        "dirichlet",
        "iid",
        "quantity",
        "sites",
        "column",
        "patient",
        "feature_shift",
        "virtual",
    ] = "auto"
    rows_per_client: int = Field(50, ge=1, le=1_000_000)
    column: str = ""
    alpha: Positive = 1.0
    feature_noise: float = Field(0.0, ge=0, allow_inf_nan=False)
    min_examples: int = Field(10, ge=1)
    dropout: Fraction = 0.0
    unmask_dropout: Fraction = 0.0
    scenario: str | dict[str, Any] = ""
    baselines: bool = True
    threads: int = Field(1, ge=1)
    executor: Literal[
        "auto", "sequential", "cohort", "processes", "processes-sequential", "ray"
    ] = "auto"
    ray_address: str = Field("", pattern=r"^(auto|[A-Za-z0-9.\-]+:[0-9]{1,5})?$")

    @model_validator(mode="after")
    def _says_what_to_part_by(self) -> SimulationTable:
        if self.partition == "column" and not self.column:
            raise ValueError(
                "partition = 'column' needs simulation.column: the column that says each row's "
                "hospital"
            )
        if self.partition == "feature_shift" and not self.column and not self.feature_noise:
            raise ValueError(
                "partition = 'feature_shift' needs simulation.column, a numeric one to sort rows "
                "by, or simulation.feature_noise above 0"
            )
        return self


class ServerTable(Table):
    """``[server]``: the coordinator's process, and the hospitals that are provisioned."""

    address: str = Field("localhost:8443", pattern=r"^[A-Za-z0-9.\-]+:[0-9]{1,5}$")
    listen: str = ""
    hospitals: list[str] = []
    folder: str = "provision"
    wait_s: float = Field(60.0, ge=0, allow_inf_nan=False)
    heartbeat_s: Positive = 3.0
    lease_s: Positive = 12.0
    max_message_mb: int = Field(4096, ge=1, le=1_000_000)
    max_connections: int = Field(256, ge=1, le=10_000)

    @model_validator(mode="after")
    def _is_sensible(self) -> ServerTable:
        for name in self.hospitals:
            if not HOSPITAL_NAME.fullmatch(name):
                raise ValueError(
                    f"hospitals: {name!r:.60} is no name; use letters, digits, '.', '_', '-', at "
                    "most 64"
                )
        if len(set(self.hospitals)) < len(self.hospitals):
            raise ValueError("hospitals: a name stands there twice")
        if self.lease_s < 2 * self.heartbeat_s:
            raise ValueError(
                "lease_s must be at least twice heartbeat_s: one lost beat is no death"
            )
        return self
