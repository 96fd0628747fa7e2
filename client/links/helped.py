"""How often, and on how many identifiers of others, this hospital has worked in linkages.

Who guesses identifiers (a birth date, a national number) needs every party's key to test a guess,
so every guess passes here. The identifiers of each other party are counted, over all runs together
and over all groups of parties that it was in: asked again they count again, as nobody can tell.

    state/links/helped.json   by session, step and party; written before the work is done
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wardround.client.links.kept import FOLDER, HELPED
from wardround.common.durable.private import read_private, write_private
from wardround.common.durable.versioned import Format
from wardround.common.errors import ProvisionError

_FORMAT = Format("count of linkages", f"move {FOLDER}/{HELPED} away (it begins at none)")
_Steps = dict[str, dict[str, int]]
"""By step, how many identifiers of each party."""


@dataclass(frozen=True)
class Total:
    """Of one other party: in how many linkages it was, and how many of its identifiers were worked
    on."""

    linkages: int = 0
    ids: int = 0


class Helped:
    """Of one hospital. Raises ProvisionError for a file that can't be read or written.

    folder : of the links. For one writer at a time
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / HELPED

    def total(self, party: str, *, without: str = "", run: str = "") -> Total:
        """What there was for a party.

        without : a session (hexadecimal) that isn't counted; ``run``: nor one of this run
        """
        linkages = ids = 0
        for session, one in self._sessions().items():
            asked = [step[party] for step in one.steps.values() if party in step]
            if asked and session != without and not (run and one.run == run):
                linkages, ids = linkages + 1, ids + sum(asked)
        return Total(linkages, ids)

    def asked(self, session: str, party: str, *, without: str = "") -> int:
        """Identifiers of a party in one session, but for those of step ``without``."""
        one = self._sessions().get(session)
        steps = one.steps.items() if one is not None else ()
        return sum(asked.get(party, 0) for step, asked in steps if step != without)

    def parties(self) -> list[str]:
        """Whom it has worked for, ordered."""
        steps = (step for one in self._sessions().values() for step in one.steps.values())
        return sorted({party for step in steps for party in step})

    def note(self, session: str, run: str, step: int, asked: Mapping[str, int]) -> bool:
        """Write down, durably, that a step works on so many identifiers of each; whether that is
        new. A step that is made again counts once: the larger number."""
        sessions = self._sessions()
        one = sessions.setdefault(session, _Session(run, {}))
        known = one.steps.setdefault(str(step), {})
        wider = {name: max(known.get(name, 0), number) for name, number in asked.items()}
        if known == known | wider:
            return False
        known.update(wider)
        stored = {name: {"run": had.run, "steps": had.steps} for name, had in sessions.items()}
        write_private(self._path, json.dumps(_FORMAT.seal({"sessions": stored})).encode())
        return True

    def _sessions(self) -> dict[str, _Session]:
        if not self._path.exists():
            return {}
        data = read_private(self._path, _FORMAT.mend)
        try:
            values = _FORMAT.read(json.loads(data), ProvisionError, str(self._path))
            return {str(name): _session(one) for name, one in values["sessions"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ProvisionError(f"{self._path}: is damaged; {_FORMAT.mend}") from None


@dataclass(frozen=True)
class _Session:
    run: str
    steps: _Steps


def _session(stored: Mapping[str, Mapping[str, Mapping[str, int]]]) -> _Session:
    steps = {
        str(step): {str(party): int(number) for party, number in asked.items()}
        for step, asked in stored["steps"].items()
    }
    return _Session(str(stored["run"]), steps)
