"""``site.toml``: a hospital's own rules, checked before anything runs.

The coordinator can't change this file. Every refusal names its key, what is allowed and what is
planned; lists and names of the hospital's own stay there. What keys say of a plan: ``rules.py``.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from wardround.client.data.hospital import Evaluation, Share
from wardround.client.site.asking_rules import AskingRules, Pattern, Patterns
from wardround.client.site.machine_rules import LocalFile
from wardround.client.site.privacy_limits import Noise, Unit
from wardround.client.site.study_rules import StudyRules, check_names, first_of
from wardround.client.sources.kept import Located
from wardround.client.sources.kinds import DataSource
from wardround.common.config.load import Config
from wardround.common.config.source import Source, validation_error
from wardround.common.errors import ConfigError, PolicyRefused
from wardround.common.manifest.planned import task_name
from wardround.common.settings import (
    ProcedureTable,
    Purpose,
    Table,
    TaskTable,
    pretrained,
    pretrained_key,
)
from wardround.common.settings.key_errors import WrongKey
from wardround.common.text import one_line

FILE = "site.toml"
_MOST_BYTES = 2**20

DataName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]


class SitePolicy(AskingRules):
    """A hospital's rules. Make one with ``load_site``; the defaults are those of an empty file.

    The descriptions are those of ``docs/policy.md``.
    """

    federations: Patterns = Field(
        ["*"], description="which federations; patterns as in a shell. A kit names its own"
    )
    tasks: Patterns = Field(
        ["*"],
        description=(
            'which tasks: `"tabular"`, `"imaging"`, `"text"`, or `"file.py:Class"` of `task_files`'
        ),
    )
    model_families: Patterns = Field(
        ["*"],
        description=(
            '`"logistic"`, `"linear"`, `"mlp"`, `"cnn"`, `"resnet18"`, `"densenet121"`, '
            '`"encoder"`, `"causal"`; a task of your own is its own family'
        ),
    )
    require_secure_aggregation: bool = Field(
        True, description="refuse runs in which the server sees single updates"
    )
    require_blind: bool = Field(
        False, description="refuse to train where the server can read sums of updates, or a model"
    )
    min_cohort: int = Field(
        3,
        ge=2,
        le=10_000,
        description="fewest hospitals whose sum may be opened; a federation's higher one counts",
    )
    max_epsilon_per_run: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="most privacy loss that a run may plan; with a limit, a run without privacy is "
        "refused. Left out: no limit",
    )
    max_epsilon_total: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description=(
            "the same for all runs together: the ledger's limit. Left out: `privacy.epsilon_limit` "
            "(or `epsilon`) of the federation; in a network that is each researcher's: set it here"
        ),
    )
    ledger: LocalFile | None = Field(
        None,
        description=(
            "the privacy ledger's file, from this file's folder; left out: `state/ledger.sqlite`. "
            "Kits that name one file share it: [one ledger for all](privacy.md#one-ledger-for-all)"
        ),
    )
    opt_out: LocalFile | None = Field(
        None,
        description=(
            "the file of [patients who have opted out](hospital.md#patients-who-opt-out); left "
            "out: `state/opted_out.txt`"
        ),
    )
    held_out_key: LocalFile | None = Field(
        None, description="the file of [the held-out key](tasks.md#the-hospitals-key); as `ledger`"
    )
    ledger_units: Literal["all", "patients"] = Field(
        "all",
        description=(
            "`all`: whatever any study spent counts for everybody. `patients`: a patient pays for "
            "the studies that had that patient's rows; needs one identifier in all exports, and "
            "read [who paid](privacy.md#who-paid) first"
        ),
    )
    max_delta: float = Field(
        1e-5,
        gt=0,
        lt=1,
        description=(
            "largest delta of a private run; well below 1 over the number of this hospital's units"
        ),
    )
    privacy_units: list[Unit] = Field(
        ["example", "patient", "hospital"],
        description="what a private run may protect; an example protects no patient with many",
    )
    noise: list[Noise] = Field(
        ["local", "distributed", "central"], description="who may make a private run's noise"
    )
    privacy_covers: list[Purpose] = Field(
        [],
        description="what a private run must cover: one that leaves such sums exact is refused",
    )
    trust_server: bool = Field(
        False,
        description=(
            "whether noise that the server adds (`central`) counts for `max_epsilon_*`; else it "
            "protects from others only, and epsilon is infinite"
        ),
    )
    max_rounds: int = Field(1000, ge=1, le=1_000_000, description="most rounds of one run")
    approval: Literal["always", "ask"] = Field(
        "always",
        description=(
            "`always`: these rules decide. `ask`: a person approves each plan, too. Left out, a "
            "network's studies are asked about"
        ),
    )
    researchers: Patterns = Field(["*"], description="whose studies, in a network; `[]`: nobody's")
    columns: Patterns = Field(
        ["*"],
        description=(
            "which columns a study may have: one that names another is refused; of a study that "
            "takes every column the others are left out, where a "
            "[snapshot](data.md#where-a-hospitals-data-are) is taken"
        ),
    )
    groups: Patterns = Field(
        [], description="by which columns figures may be shown [by groups](judgement.md)"
    )
    codes: Patterns = Field(
        ["*"],
        description=(
            'which codes a study may ask clinical records by: `["LOINC:*", "ICD10:E1*"]`; one that '
            "asks for another is refused"
        ),
    )
    modalities: Patterns = Field(
        ["*"],
        description="which kinds of images an archive is asked for: `CT`, `MR`, `DX`, ... of DICOM",
    )
    evaluation: Evaluation = Field(
        "every_round",
        description=(
            "which rounds this hospital gives figures of: each that the run evaluates, the plan's "
            "`last` one alone, or `none`"
        ),
    )
    min_evaluation_rows: int = Field(
        1,
        ge=1,
        le=1_000_000_000,
        description=(
            "fewest held-out rows of a split with which this hospital takes part in its figures; "
            "with fewer it announces none"
        ),
    )
    min_training_rows: int = Field(
        1,
        ge=1,
        le=1_000_000_000,
        description=(
            "fewest rows with which it trains; with fewer it takes part in evaluations only"
        ),
    )
    max_failures: int = Field(
        3,
        ge=1,
        le=1000,
        description=(
            "so often this hospital may fail with secure aggregation, in all runs together, which "
            "the server doesn't see; then it takes no part until a person has looked (`wardround "
            "client resume KIT`)"
        ),
    )
    colluding: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description=(
            "hospitals that may work with the server; the higher one of this and the federation's "
            "counts"
        ),
    )
    data: dict[DataName, DataSource] = Field(
        {},
        max_length=1000,
        description=(
            "where this hospital's data are, by name: `[data.NAME]`, "
            "[a table for each kind of source](data.md)"
        ),
    )
    studies: dict[Pattern, StudyRules] = Field(
        {},
        max_length=1000,
        description=(
            "by patterns of a study's name: its `data`, and any rule of this page that is to hold "
            "instead; the first that fits decides"
        ),
    )
    _source: Source = PrivateAttr(default_factory=lambda: Source("", Path(FILE)))
    _folder: Path = PrivateAttr(default=Path())
    _table: str = PrivateAttr(default="")
    """In a study's rules: the table that they are from."""
    _chosen: Located | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _studies_have_rules_that_there_are(self) -> SitePolicy:
        check_names(self.studies, self.data, set(SitePolicy.model_fields))
        for pattern, table in self.studies.items():
            try:
                SitePolicy.model_validate(table.rules)
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(["studies", pattern, *(str(part) for part in first["loc"])])
                raise WrongKey(key, first["msg"].removeprefix("Value error, ")) from None
        return self

    def for_study(self, name: str) -> SitePolicy:
        """The rules for a network's study: of the first pattern that its name fits, over these."""
        pattern = first_of(self.studies, name)
        table = self.studies[pattern] if pattern is not None else StudyRules()
        rules = {key: getattr(SitePolicy.model_validate(table.rules), key) for key in table.rules}
        rules.setdefault("approval", self.of_studies)
        chosen = {table.data: self.data[table.data]} if table.data is not None else {}
        found = self.model_copy(update=rules | {"data": chosen, "studies": {}})
        found._table = f"studies.{pattern}" if pattern is not None else ""
        found._chosen = self.located(table.data) if table.data is not None else None
        return found

    def located(self, name: str) -> Located:
        """Where ``[data.NAME]`` is. Raises PolicyRefused where there is no such table."""
        if name not in self.data:
            message = f"there is no table [data.{one_line(name, 100)}]"
            raise self.refused("data", message, "there is no such table")
        return Located.of(name, self.data[name], self._folder)

    @property
    def of_studies(self) -> Literal["always", "ask"]:
        """``approval`` of a network's studies whose table doesn't say it."""
        return self.approval if "approval" in self.model_fields_set else "ask"

    @property
    def mapped(self) -> Located | None:
        """In a study's rules: where its data are; None where they don't say it."""
        return self._chosen

    @property
    def text(self) -> str:
        """The file as it was read."""
        return self._source.text

    def refused(self, key: str, message: str, told: str | None = None) -> PolicyRefused:
        """The error for a key, with its line in site.toml. ``told`` leaves of it, after the key; by
        default the message, which then is of limits and what was asked."""
        own = f"{self._table}.{key}"
        if self._table and own in self._source.lines:
            key = own
        what = one_line(f"{self._source.place(key)}{key}: {message}")
        return PolicyRefused(what, told=one_line(f"site.toml: {key}: {told or message}"))

    # --- this hospital's settings ---------------------------------------------------------------
    def apply(self, config: Config) -> Config:
        """The federation's settings with this hospital's own over them; the stricter one wins.

        Raises PolicyRefused for a task from a file that this hospital has no copy of.
        """
        secure, privacy = config.secure_aggregation, config.privacy
        own = {
            "min_cohort": max(self.min_cohort, secure.min_cohort),
            "colluding": max(self.colluding or 0, secure.colluding),
            "threads": self.threads or secure.threads,
        }
        limits = [x for x in (self.max_epsilon_total, privacy.epsilon_limit) if x is not None]
        protection = {
            "epsilon_limit": min(limits, default=None),
            "engine": self.engine or privacy.engine,
        }
        tables: dict[str, Table | TaskTable | ProcedureTable] = {
            "secure_aggregation": secure.model_copy(update=own),
            "privacy": privacy.model_copy(update=protection),
            "training": self.over_training(config.training),
        }
        if config.procedure.own:
            copy = self.copy_of(config.procedure.called, "procedure")
            name = f"{copy}:{config.procedure.name.rpartition(':')[2]}"
            tables["procedure"] = config.procedure.model_copy(update={"name": name})
        if ":" in config.task.name:
            name = f"{self.task_file(config)}:{config.task.name.rpartition(':')[2]}"
            tables["task"] = config.task.model_copy(update={"name": name})
        elif pretrained(config.task):
            there = {pretrained_key(config.task): str(self.encoder_folder(config))}
            tables["task"] = TaskTable(name=config.task.name, **{**config.task.options, **there})
        return config.model_copy(update=tables)

    def share(self) -> Share:
        """What part this hospital plays."""
        return Share(
            self.evaluation, self.min_evaluation_rows, self.min_training_rows, self.min_persons
        )

    def beside(self, path: str) -> Path:
        """A path of ``site.toml``, from that file's folder."""
        return (self._folder / path).resolve()

    @property
    def folder(self) -> Path:
        """Where ``site.toml`` lies: the kit."""
        return self._folder

    def encoder_folder(self, config: Config) -> Path:
        """This hospital's copy of the pretrained encoder, or base model, that the federation
        trains from."""
        name = one_line(pretrained(config.task), 100)
        causal = pretrained_key(config.task) == "base_model"
        if self.encoder is None:
            what = f"the task starts from the {'base model' if causal else 'encoder'} '{name}'"
            raise self.refused("encoder", f"{what}; get its folder, and name it: encoder = 'path'")
        path = (self._folder / self.encoder).resolve()
        if not path.name or not (path.is_dir() or (causal and path.is_file())):
            raise self.refused("encoder", f"'{name}': there is no such folder")
        return path

    def task_file(self, config: Config) -> Path:
        """This hospital's copy of the file that the federation's task is from."""
        return self.copy_of(task_name(config), "task")

    def copy_of(self, name: str, what: str) -> Path:
        """This hospital's copy of the file of a ``what``, 'file.py:Class'. Raises PolicyRefused."""
        if name not in self.task_files:
            raise self.refused(
                "task_files",
                f"the {what} is '{name}', and code never travels: install a copy of the file here, "
                f'read it, and name it: [task_files] "{name}" = "path"',
            )
        path = (self._folder / self.task_files[name]).resolve()
        if not path.is_file():
            raise self.refused("task_files", f"'{name}': there is no such file")
        return path


def load_site(path: Path) -> SitePolicy:
    """Read and validate a ``site.toml``. Raises ConfigError naming file, line, key and mend."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; a start-up kit has it, and an empty one means its defaults"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({type(error).__name__})") from None
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path}: has over {_MOST_BYTES >> 20} MiB")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    try:
        policy = SitePolicy.model_validate(tables)
    except ValidationError as error:
        raise validation_error(error, Source(text, path).place, SitePolicy) from None
    policy._source = Source(text, Path(FILE))  # others read a refusal: no path of this machine
    policy._folder = path.resolve().parent
    return policy
