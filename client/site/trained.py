"""Whose rows each run has trained on, and in which rounds: so that a patient can be told.

    state/trained/<run>.json       run, study, rounds, and which sets of patients they were on
    state/trained/<digest>.set     keyed pseudonyms, 16 bytes each, sorted

Written before a training answer leaves. Nothing of it is ever sent; without the hospital's held-out
key it tells nobody who it is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.client.privacy.pseudonyms import members, pseudonyms, spellings
from wardround.common.durable.private import private_folder, read_public, write_private
from wardround.common.durable.versioned import Format
from wardround.common.errors import ProvisionError

FOLDER = "trained"
UNKNOWN = ""
"""In the place of a set's digest: the data didn't say whose the rows were."""
_FORMAT = Format("list of training patients", "leave it: it is the only record of who took part")
_SAFE = re.compile(r"[^A-Za-z0-9._-]")


@dataclass
class TrainedOn:
    """One run.

    study : its id; '' in a federation that is one
    name : the study's, or the federation's
    sets : digest of a set of patients to the rounds, each [first, last], that were on it
    """

    run: str
    study: str
    name: str
    sets: dict[str, list[list[int]]] = field(default_factory=dict)

    def note(self, digest: str, server_round: int) -> bool:
        """Add a round; whether it is new."""
        spans = self.sets.setdefault(digest, [])
        if any(first <= server_round <= last for first, last in spans):
            return False
        if spans and spans[-1][1] == server_round - 1:
            spans[-1][1] = server_round
        else:
            spans.append([server_round, server_round])
        return True


class Trained:
    """The lists of one hospital.

    state : the kit's
    key : ``opted_out.patients_key``
    """

    def __init__(self, state: Path, key: bytes) -> None:
        self._folder, self._key = state / FOLDER, key
        self._digest: tuple[int, str] | None = None

    def note(
        self, of: TrainedOn, server_round: int, patients: Iterable[str] | None, version: int
    ) -> None:
        """A round trains on these patients; None where they aren't known.

        of : the run, without sets
        version : of the rows that were read: with an equal one the patients are the same

        Raises ProvisionError, OSError if it can't be written: then nothing may leave.
        """
        private_folder(self._folder)
        if self._digest is None or self._digest[0] != version:
            self._digest = (version, self._set(patients))
        path = self._path(of.run)
        run = self._read(path) if path.exists() else of
        if run.note(self._digest[1], server_round):
            write_private(path, json.dumps(_FORMAT.seal(asdict(run))).encode())

    def _set(self, patients: Iterable[str] | None) -> str:
        if patients is None:
            return UNKNOWN
        found = pseudonyms(self._key, patients)
        digest = hashlib.sha256(found).hexdigest()
        path = self._folder / f"{digest}.set"
        if not path.exists():
            write_private(path, found)
        return digest

    def runs(self) -> Iterator[TrainedOn]:
        """All that there are, by name."""
        for path in sorted(self._folder.glob("*.json")):
            yield self._read(path)

    def rounds_with(self, run: TrainedOn, patient: str) -> list[list[int]]:
        """The rounds of a run that trained on a patient's rows, each [first, last], in order."""
        forms = pseudonyms(self._key, spellings(patient))
        own = members(forms)
        found: list[list[int]] = []
        for digest, spans in run.sets.items():
            if digest == UNKNOWN:
                continue
            data = (self._folder / f"{digest}.set").read_bytes()
            if not own.isdisjoint(members(data)):
                found += spans
        return sorted(found)

    def trained_on(self, name: str, people: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Whether a run has trained on each of these patients' rows; None where that isn't known:
        it isn't of this hospital, or the data didn't say whose its rows were."""
        path = self._path(name)
        sets = self._read(path).sets if path.exists() else {UNKNOWN: []}
        if UNKNOWN in sets:
            return None
        known: set[bytes] = set()
        for digest in sets:
            known |= members((self._folder / f"{digest}.set").read_bytes())
        names, number = np.unique(people.astype(str), return_inverse=True)
        forms = (members(pseudonyms(self._key, [one])) for one in names)
        found: NDArray[np.bool_] = np.array([not known.isdisjoint(one) for one in forms])[number]
        return found

    def _path(self, run: str) -> Path:
        """A run's name comes from a server."""
        digest = hashlib.sha256(run.encode()).hexdigest()[:16]
        return self._folder / f"{_SAFE.sub('_', run)[:80]}-{digest}.json"

    def _read(self, path: Path) -> TrainedOn:
        try:
            stored = json.loads(read_public(path, _FORMAT.mend))
        except ValueError:
            raise ProvisionError(f"{path}: is damaged; {_FORMAT.mend}") from None
        return _FORMAT.make(TrainedOn, stored, ProvisionError, str(path))
