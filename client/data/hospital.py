"""One hospital as the client sees it: its shard, its split, its prepared examples.

The split (``splitting.py``) is made once. A hospital without rows for training, such as an
external validation site, takes part in evaluations only. Preparation is cached per version of the
federation's totals.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wardround.client.data.plan import Plan
from wardround.client.data.shard import Opened, Parts, Shard
from wardround.client.data.witness import Witness
from wardround.client.training.distributed import TrainingProcesses
from wardround.client.training.teaching import beside, check_taught, lessons
from wardround.common.errors import DataError, ModelRefused
from wardround.common.figures.sums import Sums
from wardround.common.joint.links import Links
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.procedures.finished import check_held_out, check_one_model
from wardround.common.procedures.procedure import FinishedModel
from wardround.common.protocol.names import SPLITS
from wardround.common.rng import derive_seed, numpy_generator
from wardround.common.secagg.content import descriptor
from wardround.common.tasks.base import Examples
from wardround.common.trust.identity import Identity, Roster

Rows = NDArray[np.int64]
TOO_FEW_TO_TRAIN = (
    "it has fewer rows for training than it asks of itself (min_training_rows), so it takes part "
    "in evaluations only"
)
_ONE_MODEL = "no finished model can be asked about here"
ONLY_EVALUATES = "it has no rows for training, so it takes part in evaluations only"


@dataclass(frozen=True)
class Units:
    """The protected units of a training part.

    rows : positions of prepared examples, unit after unit
    starts : N + 1; unit i has ``rows[starts[i]:starts[i + 1]]``
    """

    rows: Rows
    starts: Rows

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, groups: NDArray[Any], most: int, seed: int) -> Units:
        """Rows grouped by equal ``groups``, in order; of a larger unit, ``most`` drawn at random.

        Who is drawn within a unit depends on the seed and this unit alone: whether another one is
        there must change nothing for it.
        """
        names, numbers = np.unique(groups, return_inverse=True)
        order = np.argsort(numbers, kind="stable")
        sizes = np.bincount(numbers)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        taken = np.ones(len(order), dtype=np.bool_)
        for unit in np.flatnonzero(sizes > most):
            generator = numpy_generator(seed, "records", str(names[unit]))
            left = generator.choice(sizes[unit], sizes[unit] - most, replace=False)
            taken[starts[unit] + left] = False
        capped = np.concatenate([[0], np.cumsum(np.minimum(sizes, most))]).astype(np.int64)
        return cls(order[taken].astype(np.int64), capped)


@dataclass(frozen=True)
class Keys:
    """A hospital's long-term key, every hospital's public key, and the server's (b'' where none is
    needed)."""

    identity: Identity | None = None
    roster: Roster = field(default_factory=dict)
    coordinator: bytes = b""


Evaluation = Literal["every_round", "last", "none"]


@dataclass(frozen=True)
class Share:
    """What part a hospital plays, by its own will.

    evaluation : of which rounds it gives figures; which round it is, its host holds
    evaluation_rows, training_rows : fewest rows of a split to take part with it
    persons : fewest to add anything but zeros to what is asked beside training
    """

    evaluation: Evaluation = "every_round"
    evaluation_rows: int = 1
    training_rows: int = 1
    persons: int = 1

    def least(self, split: str) -> float:
        """Fewest rows of a split to take part with."""
        if split == "train":
            return self.training_rows
        return math.inf if self.evaluation == "none" else self.evaluation_rows


def _no_model() -> FinishedModel:
    raise ModelRefused(_ONE_MODEL)


@dataclass(frozen=True)
class Place:
    """Where a hospital is, and what it has there.

    simulated : True in a simulation, where rounding and noise derive from the run's seed
    ledger_path : the privacy ledger, if ``[privacy]`` is on
    witness : who knows how far that ledger had come; None in a simulation
    each_patient : whether its limit is held for each patient by itself
    model_folder : where its own whole model is kept, if entries of the model are personal
    processes : for ``training.processes``, where the configuration is what makes the task
    share : what part it plays
    on_failure : is told purpose and reason of a failure that the server doesn't see
    tells_failures : the server sees them: a simulation's reader is at the same machine
    held_out : digest of the key that chooses its held-out rows; '' where it is of the run's seed
    source : which of the hospital's data these are; '' where it has one only
    finished : opens its own copy of the finished model that the study names; raises
        ModelRefused
    links : those that it keeps of linkages; None where it keeps none
    emulates_masks : its numbers go into emulated sums alone (``common/secagg/emulated.py``): of a
        simulation, whose reader has all rows. No message and no setting makes a hospital do so

    Raises ValueError where the masks of a hospital that isn't simulated are to be emulated.
    """

    simulated: bool = False
    ledger_path: Path | None = None
    witness: Witness | None = None
    each_patient: bool = False
    model_folder: Path | None = None
    processes: TrainingProcesses | None = None
    share: Share = Share()
    on_failure: Callable[[str, str], None] = lambda purpose, reason: None
    tells_failures: bool = False
    held_out: str = ""
    source: str = ""
    finished: Callable[[], FinishedModel] = _no_model
    study: str = ""
    links: Links | None = None
    emulates_masks: bool = False

    def __post_init__(self) -> None:
        if self.emulates_masks and not self.simulated:
            raise ValueError("only a simulated hospital's masks are emulated")


class Hospital:
    """A hospital's private data behind the task's methods.

    Parameters
    ----------
    shard : the hospital's data, its name, and the federation's task and configuration; opened once,
        when it is first needed
    keys : the roster may be replaced later, as the federation changes

    Attributes
    ----------
    totals : those that the examples were last prepared with
    plan : of the run that it takes part in; whoever accepts another one replaces it
    book : of many simulated hospitals, where their ledgers are together
        (``client/privacy/book.py``); None elsewhere
    laid_out : a phase, with these totals: its sums over no rows
    working : of a procedure with many steps, what it need not work out of its rows twice
    """

    def __init__(
        self,
        shard: Shard,
        *,
        keys: Keys | None = None,
        place: Place | None = None,
    ) -> None:
        keys, place = keys or Keys(), place or Place()
        self._shard = shard
        self.name, self.task, self.config = shard.name, shard.task, shard.config
        self.identity, self.roster = keys.identity, keys.roster
        self.simulated, self.ledger_path = place.simulated, place.ledger_path
        self.emulates_masks, self.witness = place.emulates_masks, place.witness
        self.each_patient, self.model_folder = place.each_patient, place.model_folder
        self.processes, self.share, self.on_failure = place.processes, place.share, place.on_failure
        self.tells_failures, self.held_out = place.tells_failures, place.held_out
        self.source, self._finished = place.source, place.finished
        self.study, self.links, self.coordinator = place.study, place.links, keys.coordinator
        self.plan = Plan.of_settings(self.config)
        self.book: object | None = None
        self.totals, self.working = dict[str, Any](), dict[str, Any]()
        self.laid_out: tuple[int, Sums, Sums] | None = None
        self._opened: Opened | None = None
        self._given: str | None = None
        self._warned: list[str] | None = None
        self._prepared: tuple[str, dict[str, Examples]] | None = None
        self._taught: tuple[str, Examples] | None = None
        self._units: Units | None = None

    @cached_property
    def descriptor(self) -> bytes:
        """Digest of the settings that this hospital shares with the others."""
        return descriptor(self.config)

    @cached_property
    def finished_model(self) -> FinishedModel:
        """Its own copy of the finished model that the study names. Raises ModelRefused."""
        return self._finished()

    def parts(self) -> Parts:
        """The unprepared shard by split name; a split without rows is absent.

        Without 'train' the hospital takes part in evaluations only. Raises DataError if there is
        no row at all.
        """
        return self._read().parts

    def _read(self) -> Opened:
        if self._opened is None:
            self._opened = self._shard.open()
        return self._opened

    @property
    def given_split(self) -> str:
        """Digest of who is in which part, under the held-out key, where the data says it; else
        ''."""
        if self._given is None:
            hashed = hmac.new(str(self.held_out or "").encode(), digestmod=hashlib.sha256)
            task, given = self.task, False
            for name, part in sorted(self.parts().items()):
                given |= task.given_split(part) is not None
                hashed.update(json.dumps([name, sorted(task.row_keys(part).tolist())]).encode())
            self._given = hashed.hexdigest() if given else ""
        return self._given

    def without_rows(self) -> Parts:
        """The same of none of the rows: what is left is the form of the shard, such as columns."""
        none = np.zeros(0, dtype=np.int64)
        return {name: self.task.select(part, none) for name, part in self.parts().items()}

    def training_part(self) -> Any:
        """The rows it trains on. Raises DataError where it takes part in evaluations only."""
        parts = self.parts()
        if "train" not in parts:
            raise DataError(ONLY_EVALUATES, who=self.name)
        if not self.takes_part("train"):
            raise DataError(TOO_FEW_TO_TRAIN, who=self.name)
        return parts["train"]

    def takes_part(self, split: str) -> bool:
        """Whether it has rows of the split, and as many as it wants to take part with."""
        return max(1, self.share.least(split)) <= self.sizes()[split]

    def forget(self) -> None:
        """The data has changed: it is read again when it is next needed."""
        self._opened = self._prepared = self._units = self._taught = None
        self._given = self._warned = self.laid_out = None
        self.working = {}

    def sizes(self) -> dict[str, int]:
        """Rows of each split (0 where it is absent)."""
        if self._shard.sizes is not None:
            return dict(self._shard.sizes)
        parts = self.parts()
        return {name: self.task.size(parts[name]) if name in parts else 0 for name in SPLITS}

    def warnings(self) -> list[str]:
        """What the hospital's IT should look at, one line each, without patient-level values:
        first whatever was left out of its files."""
        if self._warned is None:  # a simulation tells them, and asks its hospitals who they are
            opened, train = self._read(), self.parts().get("train")
            own = [ONLY_EVALUATES] if train is None else self.task.warnings(train)
            lines = [*opened.left_out, *own, *opened.notes]
            self._warned = [f"{self.name}: {line}" for line in lines]
        return list(self._warned)

    def statistics(self, phase: int, totals: Sums) -> Sums:
        """The training part's sums for this phase of the federated preparation.

        Raises DataError where it takes part in evaluations only: its zeros would leave the others'
        numbers alone in a sum.
        """
        return self.task.statistics(self.training_part(), phase, totals)

    def units(self) -> Units:
        """What ``privacy.unit`` protects in the training part: rows, or patients with theirs.

        Raises ConfigError if patients are to be protected and the task doesn't know them.
        """
        if self._units is None:
            seed = derive_seed(self.config.federation.seed, "units", self.name)
            most = self.config.privacy.records_per_patient
            self._units = Units.of(self._groups(self.training_part()), most, seed)
        return self._units

    def capped_rows(self, part: Any) -> Rows:
        """Positions of the rows of a part without what a unit has beyond
        ``privacy.records_per_patient``, which are drawn once."""
        seed = derive_seed(self.config.federation.seed, "units", self.name)
        most = self.config.privacy.records_per_patient
        return np.sort(Units.of(self._groups(part), most, seed).rows)

    def unit_counts(self) -> dict[str, int]:
        """How many protected units (rows or patients) each split has."""
        parts = self.parts()
        return {
            name: len(np.unique(self._groups(parts[name]))) if name in parts else 0
            for name in SPLITS
        }

    def training_patients(self) -> int | None:
        """How many patients the training part has; None where the data doesn't name them, or none
        are trained on."""
        parts = self.parts()
        patients = self.task.patients(parts["train"]) if "train" in parts else None
        return None if patients is None else len(np.unique(patients))

    def patients(self, splits: Collection[str]) -> list[str] | None:
        """Whose rows these splits have, each patient once; None where the data doesn't say it of
        every row."""
        parts = [part for name, part in self.parts().items() if name in splits]
        found = [self.task.people(part) for part in parts if self.task.names_all(part)]
        named = [one for one in found if one is not None]
        if not named or len(named) < len(parts):
            return None
        return [str(one) for one in np.unique(np.concatenate(named))]

    def _groups(self, part: Any) -> NDArray[Any]:
        """The unit that each row of a part belongs to: of patients by the hospital's own word, so
        that a study can't protect less than one by naming another column."""
        if self.config.privacy.unit != "patient":
            return np.arange(self.task.size(part))
        patients = self.task.people(part)
        if patients is None:
            raise self.config.error(
                "privacy.unit",
                "the data names no patients",
                "name the patients' column (tabular, text: task.columns.patient_id; imaging: "
                "task.files.patient_id), or set 'example' where every row is another patient",
            ).by(self.name)
        return patients

    def examples(self, totals: Sums, digest: str) -> dict[str, Examples]:
        """Prepared examples by split, cached for this version (``digest``) of the totals.

        Raises TaskError if the task's ``prepare`` fails, or breaks what ``[privacy]`` relies on.
        """
        if self._prepared is None or self._prepared[0] != digest:
            prepared = self._shard.prepare(self.parts, totals, digest)
            self._prepared = (digest, prepared)
            self.totals = totals
        return self._prepared[1]

    def check_teacher(self, totals: Sums) -> None:
        """Raise ModelRefused, ConfigError or TaskError where the study has a teacher that isn't
        here, or none for it. No row is looked at."""
        if self.config.teacher is not None:
            check_one_model(self.config, self.finished_model)
            check_held_out(self.config, self.finished_model, simulated=self.simulated)
            each_row = self.config.privacy.unit in ("example", "patient")
            check_taught(self.task, totals, self._teacher, each_row=each_row)

    @property
    def _teacher(self) -> ModelFolder:
        found = self.finished_model
        if not isinstance(found, ModelFolder):
            raise ModelRefused(
                "an export can't teach, as it has no module", mend="name the model: teacher.model"
            )
        return found

    def training_examples(self, totals: Sums, digest: str) -> Examples:
        """The prepared examples that it trains on. Where the study has a teacher its outputs stand
        beside their targets, worked out once for this version of the totals.

        Raises what ``examples`` and ``check_teacher`` do.
        """
        examples = self.examples(totals, digest)["train"]
        if self.config.teacher is None:
            return examples
        if self._taught is None or self._taught[0] != digest:
            self.check_teacher(totals)
            part, device = self.training_part(), self.config.training.device
            theirs = lessons(self.task, examples, totals, self._teacher, part, device)
            self._taught = (digest, beside(self.task, examples, theirs))
        return self._taught[1]
