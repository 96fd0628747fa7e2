"""``federation.toml``: what a federation is, validated, frozen, overridable key by key.

Every error says file, line, key and what is allowed. Unknown keys are refused. The tables
``[task]`` and ``[strategy]`` carry options of whatever task and strategy they name; these are
validated by them and reported the same way (``Config.error``).
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from wardround.common.errors import ConfigError

HOSPITAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a hospital may be called where its name becomes a folder and a certificate's subject."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FederationTable(_Table):
    """``[federation]``: the run as a whole."""

    name: str = Field("federation", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: int = Field(1, ge=0, lt=2**63)
    rounds: int = Field(20, ge=1, le=1_000_000)
    clients_per_round: int | None = Field(None, ge=1)
    min_clients: int = Field(2, ge=1)
    round_timeout_s: Positive = 600.0
    round_attempts: int = Field(3, ge=1, le=100)
    retry_wait_s: float = Field(0.0, ge=0, allow_inf_nan=False)
    runs: str = "runs"


class DataTable(_Table):
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

    @property
    def options(self) -> dict[str, Any]:
        """All keys but ``name``, as the task's constructor gets them."""
        return dict(self.model_extra or {})


class TrainingTable(_Table):
    """``[training]``: what every hospital does between two aggregations."""

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 0.05
    lr_decay: float = Field(1.0, gt=0, le=1)
    momentum: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    batch_size: int = Field(32, ge=1)
    local_epochs: int = Field(1, ge=1)
    local_steps: int | None = Field(None, ge=1)
    max_grad_norm: Positive | None = None
    device: str = "cpu"

    def lr_of(self, server_round: int) -> float:
        """The learning rate of a round (from 1): ``lr`` times ``lr_decay`` for each one before."""
        return self.lr * self.lr_decay ** max(0, server_round - 1)


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


class SecureAggregationTable(_Table):
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


class PrivacyTable(_Table):
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


class EvaluationTable(_Table):
    """``[evaluation]``: when hospitals evaluate, and which model is the run's result."""

    every: int = Field(1, ge=1)
    select: Literal["last", "best"] = "last"


class SimulationTable(_Table):
    """``[simulation]``: hospitals that exist only on this machine."""

    clients: int = Field(5, ge=1, le=1_000_000)
    partition: Literal["auto", "dirichlet", "iid", "quantity", "sites"] = "auto"
    alpha: Positive = 1.0
    min_examples: int = Field(10, ge=1)
    dropout: Fraction = 0.0
    unmask_dropout: Fraction = 0.0
    baselines: bool = True
    threads: int = Field(1, ge=1)


class ServerTable(_Table):
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
            raise ValueError("lease_s must be at least twice heartbeat_s: one lost beat is no death")
        return self


class Config(_Table):
    """A whole ``federation.toml``. Make one with ``load_config`` or ``parse_config``."""

    federation: FederationTable = FederationTable()
    data: DataTable = DataTable()
    task: TaskTable = TaskTable()
    training: TrainingTable = TrainingTable()
    strategy: StrategyTable = StrategyTable()
    secure_aggregation: SecureAggregationTable = SecureAggregationTable()
    privacy: PrivacyTable = PrivacyTable()
    evaluation: EvaluationTable = EvaluationTable()
    simulation: SimulationTable = SimulationTable()
    server: ServerTable = ServerTable()
    _source: _Source = PrivateAttr(default_factory=lambda: _Source("", None))

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        cohort = self.federation.clients_per_round
        if cohort is not None and cohort < self.federation.min_clients:
            raise ValueError(
                f"federation.clients_per_round is {cohort}, below federation.min_clients "
                f"{self.federation.min_clients}: no round could succeed"
            )
        secure = self.secure_aggregation
        if secure.enabled and cohort is not None and cohort < secure.min_cohort:
            raise ValueError(
                f"federation.clients_per_round is {cohort}, below secure_aggregation.min_cohort "
                f"{secure.min_cohort}: every hospital would refuse"
            )
        if self.evaluation.select == "best" and self.data.validation_fraction == 0:
            raise ValueError(
                "evaluation.select = 'best' needs data.validation_fraction > 0: the best round "
                "must not be chosen on test rows"
            )
        return self

    def error(self, key: str, message: str) -> ConfigError:
        """A ConfigError about the dotted ``key``, with file and line where they are known."""
        return ConfigError(f"{self._source.place(key)}{key}: {message}")

    def options_error(
        self, error: ValidationError, prefix: str, model: type[BaseModel] | None = None
    ) -> ConfigError:
        """The ConfigError for options that a task refused; ``prefix`` is their table and a dot."""
        return validation_error(error, self._source.place, model, prefix)

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the file are meant from."""
        return self._source.folder

    def data_path(self) -> Path | None:
        """``data.path`` as an absolute path; None for the task's own example data."""
        return self.folder / self.data.path if self.data.path else None

    def runs_folder(self) -> Path:
        """Where run directories are made."""
        return self.folder / self.federation.runs

    def to_toml(self) -> str:
        """The resolved configuration as TOML text, paths absolute; ``parse_config`` reads it."""
        tables = self.model_dump(mode="json", exclude_none=True)
        if path := self.data_path():
            tables["data"]["path"] = str(path.resolve())
        tables["federation"]["runs"] = str(self.runs_folder().resolve())
        name = self.task.name
        if ":" in name:
            tables["task"]["name"] = str((self.folder / name).resolve())
        return tomli_w.dumps(tables)


class _Source:
    """Where the keys of a configuration were written."""

    def __init__(self, text: str, path: Path | None, overridden: Iterable[str] = ()) -> None:
        self.path = path
        self.folder = path.parent if path else Path()
        self.overridden = set(overridden)
        self.lines = _key_lines(text)

    def place(self, key: str) -> str:
        """'file:line: ' of a dotted key, or of its nearest table; '--set ' for an override."""
        if any(key == name or key.startswith(name + ".") for name in self.overridden):
            return "--set "
        name = str(self.path) if self.path else "configuration"
        while key:
            if key in self.lines:
                return f"{name}:{self.lines[key]}: "
            key = key.rpartition(".")[0]
        return f"{name}: "


Config.model_rebuild()


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate ``federation.toml``; overrides are 'table.key=value' with a TOML value.

    Raises ConfigError naming file, line, key and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `wardround init` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({type(error).__name__})") from None
    return parse_config(text, overrides, path)


def parse_config(text: str, overrides: Sequence[str] = (), path: Path | None = None) -> Config:
    """``load_config`` for text; relative paths are meant from ``path``'s folder, or from here."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path or 'configuration'}: not valid TOML: {error}") from None
    keys = [_apply_override(tables, override) for override in overrides]
    source = _Source(text, path, keys)
    try:
        config = Config.model_validate(tables)
    except ValidationError as error:
        raise validation_error(error, source.place, Config) from None
    config._source = source
    return config


def validation_error(
    error: ValidationError,
    place: Callable[[str], str],
    model: type[BaseModel] | None,
    prefix: str = "",
) -> ConfigError:
    """The first problem of a pydantic error as one ConfigError line, with hints.

    ``model`` is what was validated, to name its keys; None where it isn't known.
    """
    first, others = error.errors()[0], error.error_count() - 1
    key = prefix + ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        if known and not near:
            hint = f"; allowed: {', '.join(known)}"
        message = f"unknown key{hint}"
    elif first["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]} (found {first['input']!r:.60})"
    more = f" (and {others} more)" if others else ""
    return ConfigError(f"{place(key)}{key + ': ' if key else ''}{message}{more}")


def _known_keys(model: type[BaseModel] | None, loc: Sequence[int | str]) -> list[str]:
    if model is None:
        return []
    for part in loc:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return sorted(model.model_fields)


def _apply_override(tables: dict[str, Any], override: str) -> str:
    """Put one 'a.b=value' into the tables; returns the dotted key."""
    key, equals, value = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(f"--set {override}: write it as table.key=value, e.g. training.lr=0.01")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a bare word is a string, as a shell user expects
    table = tables
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: '{part}' is a value, not a table")
    table[parts[-1]] = parsed
    return ".".join(parts)


def _key_lines(text: str) -> dict[str, int]:
    """Line number of each table and key; good enough to point at a mistake."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            table = header[1].replace('"', "")
            lines.setdefault(table, number)
        elif pair := re.match(r"\s*([A-Za-z0-9_.\"-]+)\s*=", line):
            key = pair[1].replace('"', "")
            lines.setdefault(f"{table}.{key}" if table else key, number)
    return lines
