"""The hospitals of a simulation: real sites from a folder, a pooled shard partitioned, or virtual
clients that are made when they are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from wardround.client.data.hospital import Hospital, Keys, Place
from wardround.client.data.shard import OwnShard, Shard
from wardround.client.links.kept import Record
from wardround.client.links.store import LinkStore
from wardround.client.privacy.book import BOOK, SharedBook
from wardround.client.privacy.ledger import Ledger
from wardround.client.training.settings import check_training
from wardround.common.config.load import Config
from wardround.common.errors import ConfigError, DataError, WardroundError
from wardround.common.export.finished import finished_model
from wardround.common.flower.hosting import Context
from wardround.common.judgement.judge import check_judgement
from wardround.common.model.initial import Initial, read_initial
from wardround.common.names import name_of, names_of
from wardround.common.privacy.incompatible import check_settings, check_task
from wardround.common.procedures.procedure import FinishedModel
from wardround.common.settings import JointOptions, LinkageOptions
from wardround.common.tasks.base import Task
from wardround.common.tasks.data.profile.words import says_site
from wardround.common.tasks.data.reading.read import left_beside
from wardround.common.tasks.data.roles import value_cells
from wardround.common.tasks.data.shards import visible
from wardround.common.tasks.data.table import Table
from wardround.common.trust.identity import Identity
from wardround.server.members.lazy import VirtualMembers
from wardround.simulations.given.held import WHOLE, GivenData, check_given
from wardround.simulations.population.feature_noise import NoisyShard
from wardround.simulations.population.identities import Identities, fresh_identities
from wardround.simulations.population.masks import Masks, masks_of
from wardround.simulations.population.partition import partition
from wardround.simulations.population.vertical import vertical_rows
from wardround.simulations.population.virtual import (
    ClientNames,
    GeneratedShards,
    PooledShards,
    VirtualHospitals,
    check_virtual,
    kept_hospitals,
)

MOST_LEDGERS = 64
"""Hospitals with a ledger file each, as a real one has it; more have one for all."""
LARGE = ".images"
"""Beside the runs: images that don't fit into memory, decoded once for all runs of the same
data."""

_TOLD_EVERY = 1000
"""Hospitals whose data are read between two lines on it."""
_MOST_SITES = 100
"""Texts of a column that may be hospitals' names."""


class Population:
    """Hospitals by name; a shard is opened when it is first needed.

    ``data.path`` that is a folder: every file or folder in it is a hospital (``partition =
    'sites'``, and the default there), unless it is one data set with a split or classes: then the
    partition must be said. Otherwise the task's rows are partitioned, or virtual clients draw from
    them.

    Parameters
    ----------
    identities : gives the hospitals' identity keys by name; new ones by default
    given : the data, where a program holds them; ``data.path`` then says nothing
    may_emulate : whether the host can emulate their masks

    Attributes
    ----------
    names : in the order of the hospitals' numbers
    titles : what a hospital's file or folder is called, by name, where that is something else
    outside : hospitals that take no part (``simulation.leave_out``); none of ``names``
    coordinator : the server's own key, of a joint procedure
    members : what the server is told of a virtual population; None for any other
    keep : how many virtual clients stay in memory; None for hospitals that all stay
    notes : what of the data is no hospital's, one line each
    masks : how updates are hidden (``masks.py``)
    """

    members: VirtualMembers | None = None
    coordinator: Identity | None = None
    keep: int | None = None
    masks = Masks("protocol", [])

    def __init__(
        self,
        config: Config,
        task: Task[Any],
        identities: Callable[[Sequence[str]], Identities] = fresh_identities,
        given: GivenData | None = None,
        *,
        may_emulate: bool = True,
    ) -> None:
        check_training(config, task, simulated=True)
        check_settings(config)
        check_task(config, task)
        check_judgement(config, task)
        self.config, self.task, self._given = config, task, given
        self.notes: list[str] = [] if given is None else list(given.notes)
        self._identities, self._may_emulate = identities, may_emulate
        self._large = config.runs_folder() / LARGE
        self._finished: FinishedModel | None = None
        self.roster: dict[str, bytes] = {}
        self.titles: dict[str, str] = {}
        kind: str = config.simulation.partition
        if given is not None:
            kind = check_given(config, given)
        path = config.data_path()
        if path is not None and not path.exists():
            raise config.error("data.path", f"{path}: no such file or folder")
        if given is None and kind == "sites" and (path is None or not path.is_dir()):
            raise config.error(
                "simulation.partition", "'sites' needs data.path to be a folder of hospitals"
            )
        self._hospitals: Mapping[str, Hospital]
        if kind == "virtual":
            check_virtual(config)
            self._hospitals = self._virtual(path)
        elif kind == "sites" or (kind == "auto" and path is not None and path.is_dir()):
            self._hospitals = self._make(self._sites(path))
        else:
            self._hospitals = self._make(self._partitioned(path))
        self.names: Sequence[str] = list(self._hospitals) if self.keep is None else self._clients
        self.outside = self._left_out()
        if self.outside:
            self.names = [name for name in self.names if name not in self.outside]
            self.roster = {k: v for k, v in self.roster.items() if k not in self.outside}
            for name in self.names:
                self._hospitals[name].roster = self.roster

    def _left_out(self) -> list[str]:
        """Raises ConfigError for a hospital that isn't there."""
        wanted = {name_of(text) for text in self.config.simulation.leave_out}
        if wanted and self.keep is not None:
            key = "simulation.leave_out"
            raise self.config.error(
                key, "of clients of a virtual population each is like any other"
            )
        if unknown := sorted(wanted - set(self.names)):
            known = ", ".join(list(self.names)[:8])
            raise self.config.error(
                "simulation.leave_out", f"there is no hospital '{unknown[0]}'; there are: {known}"
            )
        return sorted(wanted)

    @cached_property
    def initial(self) -> Initial | None:
        """What the first model takes from a file; None where nothing."""
        return read_initial(self.config)

    def hospital(self, name: str) -> Hospital:
        """The hospital of that name."""
        return self._hospitals[name]

    def training_rows(self, name: str) -> int:
        """Rows that a hospital trains on; 0 for one whose shard can't be read."""
        try:
            return self._hospitals[name].sizes()["train"]
        except WardroundError:
            return 0

    def training(self) -> list[Hospital]:
        """The hospitals that have rows to train on. Raises what reading a shard raises."""
        hospitals = map(self.hospital, self.names)
        return [one for one in hospitals if one.sizes()["train"]]

    def warnings(self, tell: Callable[[str], None] = lambda text: None) -> list[str]:
        """What each hospital's IT would be told about its shard. Says nothing of a shard that can't
        be read: the hospital itself will, when it is asked.

        tell : is told how far it has come, as each shard is read for it
        """
        lines, count = [], len(self.names)
        for number, name in enumerate(self.names, 1):
            if number % _TOLD_EVERY == 0 and number < count:
                tell(f"reading data: {number} of {count} hospitals")
            try:
                lines += self._hospitals[name].warnings()
            except WardroundError:
                continue
        return lines

    def open(self, context: Context) -> Hospital:
        """The hospital of a Flower context: by name, or by ``partition-id`` on Flower's engine."""
        name = context.node_config.get("hospital")
        if isinstance(name, str) and name in self._hospitals:
            return self._hospitals[name]
        index = context.node_config.get("partition-id")
        if isinstance(index, int) and 0 <= index < len(self.names):
            return self._hospitals[self.names[index]]
        raise ConfigError(
            f"this node is no hospital of the simulation, which has {len(self.names)}; "
            "start as many nodes as simulation.clients"
        )

    def _make(self, shards: dict[str, Callable[[], Any]]) -> dict[str, Hospital]:
        """The hospitals of these shards; with keys if the configuration needs them."""
        identities: Identities = {}
        if self._may_emulate:
            self.masks = masks_of(self.config, len(shards))
        if joint := self.config.procedure.joint:
            self.coordinator = Identity.generate()
        masked = self.config.secure_aggregation.enabled and not self.masks.emulated
        if joint or masked or self.config.privacy.enabled:
            identities = self._identities(list(shards))
            self.roster = {name: identity.public for name, identity in identities.items()}
        hospitals = {}
        for number, (name, open_shard) in enumerate(shards.items(), 1):
            shard = OwnShard(name, self.task, self.config, open_shard)
            hospitals[name] = Hospital(
                self._with_noise(shard, number, len(shards)),
                keys=Keys(
                    identities.get(name),
                    self.roster,
                    self.coordinator.public if self.coordinator else b"",
                ),
                place=Place(
                    simulated=True,
                    tells_failures=True,
                    finished=self._finished_model,
                    study=study_name(self.config),
                    emulates_masks=self.masks.emulated,
                ),
            )
        return hospitals

    def _finished_model(self) -> FinishedModel:
        """The one copy that there is here."""
        if self._finished is None:
            options = self.config.finished
            assert options is not None
            self._finished = finished_model(self.config.folder / options.model, self.config)
        return self._finished

    def _with_noise(self, shard: Shard, number: int, count: int) -> Shard:
        """The shard of hospital ``number`` of ``count`` with its noise, if any is asked for."""
        variance = self.config.simulation.feature_noise * number / count
        return NoisyShard(shard, variance) if variance else shard

    def _virtual(self, path: Path | None) -> VirtualHospitals:
        names = self._clients = ClientNames(self.config.simulation.clients)
        if self._may_emulate:
            self.masks = masks_of(self.config, len(names))
        shards: GeneratedShards | PooledShards
        shards = GeneratedShards(self.task, self.config)
        if shards.open(1) is None:
            shards = PooledShards(self.task, self._pooled(path), self.config)

        def make(number: int, name: str) -> Hospital:
            shard = self._with_noise(shards.shard(number, name), number, len(names))
            place = Place(
                simulated=True,
                tells_failures=True,
                finished=self._finished_model,
                emulates_masks=self.masks.emulated,
            )
            return Hospital(shard, place=place)

        def sizes(name: str) -> dict[str, int]:
            return shards.sizes or self._hospitals[name].sizes()

        self.keep = kept_hospitals(self.config)
        self.members = VirtualMembers(names, sizes, shards.sizes)
        return VirtualHospitals(names, make, self.keep)

    def keep_ledgers(self, folder: Path) -> None:
        """Where the hospitals' privacy ledgers are, if ``[privacy]`` is on; this makes
        none (``create_ledgers``). Those of many are in one book."""
        if not self.config.privacy.enabled:
            return
        paths = {name: folder / f"{name}.sqlite" for name in self._hospitals}
        if len(paths) > MOST_LEDGERS and not any(path.exists() for path in paths.values()):
            book = SharedBook(folder / BOOK)
            for hospital in self._hospitals.values():
                hospital.book = book
            return
        for name, hospital in self._hospitals.items():
            hospital.ledger_path = paths[name]

    def keep_links(self, folder: Path, models: Path | None = None) -> None:
        """Where the hospitals' links are, of joint procedures, and their parts of a model."""
        options = self.config.procedure.settings
        if isinstance(options, JointOptions):
            about = Record(
                name=study_name(self.config),
                made="in a simulation",
                parties=sorted(self.names),
                used_by=options.used_by if isinstance(options, LinkageOptions) else [],
            )
            for name, hospital in self._hospitals.items():
                hospital.links = LinkStore(folder / name, lambda: about)
                hospital.model_folder = models / name if models is not None else None

    def create_ledgers(self) -> None:
        """New, empty ledgers for hospitals that have none: at the beginning of a run only."""
        if self.config.privacy.enabled:
            for hospital in self._hospitals.values():
                create_ledger(hospital)

    def _sites(self, path: Path | None) -> dict[str, Callable[[], Any]]:
        if self._given is not None:
            return self._named(self._given.shards, self._load_given)
        assert path is not None
        if shape := self.task.data_set(path):
            raise self.config.error(
                "simulation.partition",
                f"{path} is one data set ({shape}), not a folder of hospitals; say how hospitals "
                "are made of it, such as simulation.partition = 'dirichlet', or put each "
                "hospital's data into a folder of its own there",
            )
        sites = self.task.sites(path)
        if not sites:
            raise DataError(
                f"{path}: no hospital in this folder"
                + "; its files have endings that the task doesn't read" * bool(visible(path))
                + "; put one file or folder each"
            )
        if left := left_beside(entry for entry in visible(path) if entry not in sites.values()):
            self.notes.append(f"data.path: no hospital's data, so left out: {left}")
        return self._named(sites, lambda title: self.task.load_large(sites[title], self._large))

    def _named(
        self, sites: Mapping[str, Any], load: Callable[[str], Any]
    ) -> dict[str, Callable[[], Any]]:
        """The hospitals of these titles. Raises DataError for titles that make one name."""
        called = names_of(sites)
        self.titles = {name: title for name, title in called.items() if name != title}
        return {name: partial(load, title) for name, title in called.items()}

    def _load_given(self, title: str) -> Any:
        assert self._given is not None
        return self._given.load(title, self.task, self._large)

    def _partitioned(self, path: Path | None) -> dict[str, Callable[[], Any]]:
        pooled, kind = self._pooled(path), self.config.simulation.partition
        by_columns = kind == "vertical" or (kind == "auto" and self.config.procedure.joint)
        parts = (vertical_rows if by_columns else partition)(self.task, pooled, self.config)
        return {name: partial(self.task.select, pooled, rows) for name, rows in parts.items()}

    def _pooled(self, path: Path | None) -> Any:
        """The data that hospitals are made of; what its reader left out is no hospital's to say."""
        given = self._given is not None
        pooled = self._load_given(WHOLE) if given else self.task.load_large(path, self._large)
        if self.task.size(pooled) == 0:
            raise DataError(f"{path or 'the example data'}: no usable rows")
        self.notes += [f"data.path: {one}" for one in self.task.left_out(pooled)]
        if self.config.simulation.partition not in ("column", "feature_shift", "vertical"):
            self.notes += _named_sites(pooled)
        return pooled.many_selections() if isinstance(pooled, Table) else pooled


def _named_sites(pooled: Any) -> list[str]:
    """Columns of a table whose names say that their few texts are hospitals, which aren't made."""
    if not isinstance(pooled, Table):
        return []
    named = [name for name in pooled.columns if says_site(name)]
    return [
        f"column '{name}' seems to name hospitals: simulation.partition = 'column' and "
        f"simulation.column = '{name}' make one of each"
        for name in named
        if 2 <= len(np.unique(value_cells(pooled, name))) <= _MOST_SITES
    ]


def study_name(config: Config) -> str:
    """As hospitals know it: of a network's study its own, else the federation's."""
    return config.study.name if config.study is not None else config.federation.name


def create_ledger(hospital: Hospital) -> None:
    """A new, empty ledger for a simulated hospital, unless it has one or needs none."""
    if isinstance(hospital.book, SharedBook):
        hospital.book.create()
        return
    path = hospital.ledger_path
    if path is not None and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        Ledger.create(path, hospital.name, durable=False).close()
