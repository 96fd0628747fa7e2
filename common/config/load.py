"""``federation.toml``: what a federation is, validated, frozen, overridable key by key.

Every error says file, line, key and what is allowed. Unknown keys are refused. The tables
``[task]`` and ``[strategy]`` carry options of whatever task and strategy they name; these are
validated by them and reported the same way (``Config.error``).
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path

import tomli_w
from pydantic import BaseModel, PrivateAttr, ValidationError, model_validator

from wardround.common.config.blind import check_blind
from wardround.common.config.finished import model_digest
from wardround.common.config.overrides import Overridden
from wardround.common.config.pace import check_pace
from wardround.common.config.schedules import learning_rate
from wardround.common.config.source import Source, validation_error
from wardround.common.errors import ConfigError, TaskError
from wardround.common.settings import (
    TASK_PATHS,
    CardTable,
    CohortTable,
    CompressionTable,
    DataTable,
    EvaluationTable,
    FederationTable,
    JudgementTable,
    NamedModel,
    NeedsTable,
    NetworkTable,
    PrivacyTable,
    ProcedureTable,
    SecureAggregationTable,
    ServerTable,
    SimulationTable,
    StrategyTable,
    StudyTable,
    Table,
    TaskTable,
    TeacherTable,
    TrackingTable,
    TrainingTable,
    is_built_in,
    without_pace,
)
from wardround.common.settings.effects import check_effects, keys_without_effect
from wardround.common.settings.known_effects import EFFECTS
from wardround.common.settings.tracking import TrackerName


class Config(Table):
    """A whole ``federation.toml``. Make one with ``load_config`` or ``parse_config``.

    An attribute for each table, of which each key is one. Frozen: a variation is another text, or
    another override.

    >>> from wardround.simulations import Config
    >>> config = Config()
    >>> config.federation.rounds, config.training.optimizer
    (20, 'sgd')
    >>> parse_config(config.to_toml()).training == config.training
    True
    """

    federation: FederationTable = FederationTable()
    data: DataTable = DataTable()
    task: TaskTable = TaskTable()
    training: TrainingTable = TrainingTable()
    strategy: StrategyTable = StrategyTable()
    secure_aggregation: SecureAggregationTable = SecureAggregationTable()
    privacy: PrivacyTable = PrivacyTable()
    compression: CompressionTable = CompressionTable()
    evaluation: EvaluationTable = EvaluationTable()
    procedure: ProcedureTable = ProcedureTable()
    simulation: SimulationTable = SimulationTable()
    server: ServerTable = ServerTable()
    network: NetworkTable | None = None
    study: StudyTable | None = None
    cohort: CohortTable | None = None
    needs: NeedsTable | None = None
    judgement: JudgementTable | None = None
    teacher: TeacherTable | None = None
    card: CardTable = CardTable()
    tracking: TrackingTable = TrackingTable()
    _source: Source = PrivateAttr(default_factory=lambda: Source("", None))
    _notes: list[str] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _has_no_key_without_effect(self) -> Config:
        check_effects(self, EFFECTS)
        return self

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Config:
        if self.tracking.to and self.study is not None:
            raise ValueError("[tracking] beside [study]: it is the coordinator's, in its own file")
        if self.tracking.to and not self.procedure.trains:
            raise ValueError("[tracking]: has no effect with a procedure that trains nothing")
        if self.network is None:
            return self
        more = sorted(self.model_fields_set - {"federation", "server", "network", "tracking"})
        if more:
            raise ValueError(
                f"[{more[0]}] beside [network]: a network has studies, each of which has a file of "
                "its own with it (wardround study submit)"
            )
        if keys := sorted(self.federation.model_fields_set - {"name", "runs"}):
            raise ValueError(
                f"federation.{keys[0]} beside [network]: a study's file says it, not the network's"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        check_pace(self)
        check_blind(self)
        cohort = self.federation.clients_per_round
        if cohort is not None and cohort < self.federation.min_clients:
            raise ValueError(
                f"federation.clients_per_round is {cohort}, below federation.min_clients "
                f"{self.federation.min_clients}: no round could succeed"
            )
        if self.teacher is not None and not self.procedure.trains:
            raise ValueError(
                f"[teacher] beside procedure.name = '{self.procedure.name}', which trains nothing: "
                "leave the table out"
            )
        trains, private = self.procedure.trains, self.privacy.enabled
        if found := self.compression.why_not(
            private, self.strategy.name, trains, self.federation.buffered
        ):
            raise ValueError(f"[compression] beside {found[0]}, {found[1]}")
        secure = self.secure_aggregation
        if secure.enabled and cohort is not None and cohort < secure.min_cohort:
            raise ValueError(
                f"federation.clients_per_round is {cohort}, below secure_aggregation.min_cohort "
                f"{secure.min_cohort}: every hospital would refuse"
            )
        if self.training.warmup_rounds >= self.federation.rounds:
            raise ValueError(
                f"training.warmup_rounds is {self.training.warmup_rounds}, not below "
                f"federation.rounds {self.federation.rounds}: no round would have the whole rate"
            )
        asked = self.evaluation.clients
        if secure.enabled and asked is not None and asked < secure.min_cohort:
            raise ValueError(
                f"evaluation.clients is {asked}, below secure_aggregation.min_cohort "
                f"{secure.min_cohort}: every hospital would refuse"
            )
        return self

    def error(self, key: str, message: str, mend: str = "") -> ConfigError:
        """A ConfigError about the dotted ``key``, with file and line where they are known."""
        return ConfigError(f"{self._source.place(key)}{key}: {message}", mend=mend)

    def options_error(
        self, error: ValidationError, prefix: str, model: type[BaseModel] | None = None
    ) -> ConfigError:
        """The ConfigError for options that a task refused; ``prefix`` is their table and a dot."""
        return validation_error(error, self._source.place, model, prefix)

    @property
    def notes(self) -> list[str]:
        """What the command line left without effect in the file, for people."""
        return list(self._notes)

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the file are meant from."""
        return self._source.folder

    @property
    def finished(self) -> NamedModel | None:
        """The finished model that the settings name: one that a procedure is asked of, or a
        teacher; None where they name none."""
        return self.procedure.finished or self.teacher

    @property
    def finished_table(self) -> str:
        """The table that names it."""
        return "teacher" if self.procedure.finished is None else "procedure"

    def lr_of(self, server_round: int) -> float:
        """The local learning rate of a round, from 1."""
        return learning_rate(self.training, server_round, self.federation.rounds)

    def data_path(self) -> Path | None:
        """``data.path`` as an absolute path; None for the task's own example data."""
        return self.folder / self.data.path if self.data.path else None

    def runs_folder(self) -> Path:
        """Where run directories are made."""
        return self.folder / self.federation.runs

    def tracking_place(self, to: TrackerName, runs: Path) -> str:
        """Where a tracker's figures go: MLflow's address, or a folder; ``runs``: the runs'."""
        if to == "mlflow":
            return self.tracking.mlflow
        folder = self.tracking.folder
        return str(self.folder / folder if folder else runs / "tracking")

    def to_toml(self, folder: Path | None = None) -> str:
        """The resolved configuration as TOML text; ``parse_config`` reads it.

        folder : where the text will lie: what is relative in this configuration is relative from
            there, so that both can be moved together. None: every path is absolute
        """
        here = self.folder.resolve()

        def path(text: str) -> str:
            if folder is None or Path(text).is_absolute():
                return str((here / text).resolve())
            return os.path.relpath((here / text).resolve(), folder.resolve())

        tables = self.model_dump(mode="json", exclude_none=True)
        for table, key in (("data", "path"), ("federation", "initial"), ("simulation", "scenario")):
            if (text := tables[table][key]) and isinstance(text, str):
                tables[table][key] = path(text)
        tables["federation"]["runs"] = path(self.federation.runs)
        if self.procedure.trains:  # as it is where nothing is said
            del tables["procedure"]
        for table in ("procedure", "teacher"):
            names_file = table == "teacher" or self.procedure.finished is not None
            if names_file and (model := tables.get(table, {}).get("model")):
                tables[table]["model"] = path(model)
        if not self.card.model_fields_set:
            del tables["card"]
        if not self.compression.enabled:
            del tables["compression"]
        without_pace(tables, self.federation)
        if not self.tracking.to:
            del tables["tracking"]
        elif text := self.tracking.folder:
            tables["tracking"]["folder"] = path(text)
        for table in ("task", "strategy"):  # a class of the user's own: path/to/file.py:Class
            if ":" in (name := tables[table]["name"]):
                tables[table]["name"] = path(name)
        if is_built_in(self.task.name):
            for key in TASK_PATHS:
                if (text := self.task.options.get(key)) and isinstance(text, str):
                    tables["task"][key] = path(text)
        return tomli_w.dumps(tables)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate ``federation.toml``; overrides are 'table.key=value' with a TOML value.

    Raises ConfigError naming file, line, key and what is allowed.

    >>> from wardround.simulations import load_config
    >>> path = Path("federation.toml")
    >>> _ = path.write_text("training.lr = 0.1")
    >>> load_config(path, ["training.lr=0.2"]).training.lr
    0.2
    """
    return parse_config(config_text(path), overrides, path)


def config_text(path: Path) -> str:
    """The text of a ``federation.toml``. Raises ConfigError if it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `wardround init` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({type(error).__name__})") from None


def parse_config(text: str, overrides: Sequence[str] = (), path: Path | None = None) -> Config:
    """``load_config`` for text; relative paths are meant from ``path``'s folder, or from here.

    What an override leaves without effect in the text is left out, and told: ``Config.notes``.
    Raises ConfigError as ``load_config`` does.

    >>> from wardround.simulations import parse_config
    >>> config = parse_config("training.lr = 0.1", ["federation.rounds=3"])
    >>> config.training.lr, config.federation.rounds
    (0.1, 3)
    >>> parse_config("training.lr = -1")
    Traceback (most recent call last):
    wardround.common.errors.ConfigError: ...: training.lr: input should be greater than 0 (found -1)
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path or 'configuration'}: not valid TOML: {error}") from None
    overridden = Overridden(tables, overrides, path)
    source = Source(text, path, overridden.keys)
    while True:
        try:
            config = Config.model_validate(tables)
            _check_task_effects(config)
        except ValidationError as error:
            prefix = "" if error.title == Config.__name__ else "task."
            if overridden.take_out(keys_without_effect(error, prefix)):
                continue
            if prefix:  # of other mistakes in its options the task itself tells
                model = _task_options(config.task.name)
                raise validation_error(error, source.place, model, prefix) from None
            raise validation_error(error, source.place, Config) from None
        config._source, config._notes = source, overridden.notes
        _check_cohort(config)
        return _with_digest(config)


def _with_digest(config: Config) -> Config:
    """With the digest of the finished model that the settings name, where its folder is at hand;
    where it isn't, whoever needs it says so (``check_named``). Raises ConfigError where that is
    another one than the settings have."""
    if config.procedure.own:
        return _with_file(config)
    options, table = config.finished, config.finished_table
    if options is None or not options.model:
        return config
    try:
        found = model_digest(config.folder / options.model)
    except OSError:
        return config
    if options.model_digest not in ("", found):
        raise config.error(
            f"{table}.model_digest",
            f"is {options.model_digest[:16]}..., the model there has {found[:16]}...",
            "leave one of the two keys out, or bring the model back",
        )
    if config.teacher is not None:
        named = config.teacher.model_copy(update={"model_digest": found})
        return config.model_copy(update={"teacher": named})
    return config.model_copy(update={"procedure": config.procedure.of_model(found)})


def _with_file(config: Config) -> Config:
    """With the digest of the file that the procedure is from, where it is at hand. Raises
    ConfigError where the settings have another one."""
    path = config.folder / config.procedure.name.rpartition(":")[0]
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return config
    own = str(config.procedure.options.get("file_sha256", ""))
    if own not in ("", found):
        raise config.error(
            "procedure.file_sha256",
            f"is {own[:16]}..., the file has {found[:16]}...",
            "leave the key out, or bring that file back",
        )
    return config.model_copy(update={"procedure": config.procedure.of_file(found)})


def _check_cohort(config: Config) -> None:
    """Raise ConfigError for a task that no cohort's table is for, or that names a column which the
    cohort hasn't: a hospital that answers from clinical records would have none."""
    if config.cohort is None or not is_built_in(config.task.name):
        return
    if config.task.name != "tabular":
        raise config.error("cohort", f"has no effect with task.name = '{config.task.name}'")
    from wardround.common.tasks.options import Columns

    try:
        columns = Columns.model_validate(config.task.options.get("columns", {}))
    except ValidationError:
        return  # the task itself tells
    for name in columns.named():
        if name not in config.cohort.columns:
            line = f"'{name:.80}' is no variable of [cohort]; add it there, or name another"
            raise config.error("task.columns", line)


def _check_task_effects(config: Config) -> None:
    """Raise ValidationError for a key of ``[task]`` without effect."""
    if (model := _task_options(config.task.name)) is not None:
        try:
            model.model_validate(config.task.options)
        except ValidationError as error:
            if keys_without_effect(error):
                raise


def _task_options(name: str) -> type[BaseModel] | None:
    """The model of a built-in task's options; None of any other's, or where it can't be had."""
    from wardround.common.tasks import built_in  # imports torch

    try:
        return None if ":" in name else built_in(name).options_model
    except TaskError:
        return None  # whoever makes the task says why
