"""What each role sees of a study: the rules of the port that hospitals dial, for a page
(``server/studies/rights.py``).

A coordinator sees all. A researcher sees their own studies, without connections and the audit log,
which are the network's, and of single hospitals no size, figure or budget, as in results. A
hospital sees the studies that it is wanted in, of decisions its own only; the rounds once it has
accepted, and there of others who they are, and no number of theirs. Whoever may not see a study
can't tell it from one that doesn't exist.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from wardround.server.dashboard.sign_in.roles import Visitor
from wardround.server.display.board_rows import HospitalRow
from wardround.server.display.study_lines import StudyLine
from wardround.server.studies.rights import FAILED

Sight = Literal["all", "owner", "hospital"]
_PLAIN = vars(HospitalRow())
_OF_OTHERS = ("name", "title", "state", "up")
_NUMBERS = ("address", "version", "private", "epsilon", "epsilon_limit", "delta")
_NOT_THE_OWNERS = {key: _PLAIN[key] for key in _NUMBERS} | {"sizes": {}, "figures": {}}
"""Of a hospital, what results don't tell its researcher either."""


def sight_of(visitor: Visitor, line: StudyLine) -> Sight | None:
    """As what somebody sees a study; None: not at all."""
    if visitor.sees_all:
        return "all"
    if line.owner in visitor.parties("researcher"):
        return "owner"
    return "hospital" if visitor.parties("hospital") & line.hospitals.keys() else None


def sees_rounds(visitor: Visitor, line: StudyLine) -> bool:
    """Whether the rounds of a study that somebody sees are theirs to see too."""
    if sight_of(visitor, line) != "hospital":
        return True
    own = visitor.parties("hospital") & line.hospitals.keys()
    return any(line.hospitals[name].word == "accepted" for name in own)


def study_for(visitor: Visitor, line: StudyLine, shown: dict[str, Any]) -> dict[str, Any]:
    """A study as ``StudiesBoard.one`` has it, as far as it is this visitor's to see."""
    if sight_of(visitor, line) != "hospital":
        return shown
    own = visitor.parties("hospital")
    said = [
        row if row["name"] in own else row | {"word": "", "reason": ""}
        for row in shown["hospitals"]
    ]
    events = [
        row for row in shown["events"] if row["kind"] in ("state", "claim") or row["who"] in own
    ]
    events = [row | {"reason": FAILED} if row["new"] == "failed" else row for row in events]
    others = {name for name in line.hospitals if name not in own}
    return shown | {
        "reason": FAILED if line.state == "failed" else shown["reason"],
        "hospitals": said,
        "events": events,
        "waiting_for": [name for name in shown["waiting_for"] if name not in others],
        "board": shown["board"] and sees_rounds(visitor, line),
    }


def picture_for(visitor: Visitor, sight: Sight, picture: dict[str, Any]) -> dict[str, Any]:
    """A board's snapshot, or the sections that changed, for who sees it so."""
    if sight == "all":
        return picture
    found = {key: value for key, value in picture.items() if key != "audit"}
    if "audit" in picture:
        found["audit"] = []
    own = visitor.parties("hospital")
    if "hospitals" in found:
        found["hospitals"] = [_row(row, sight, row["name"] in own) for row in found["hospitals"]]
    if "refusals" in found:
        found["refusals"] = [
            row
            for row in found["refusals"]
            if row["hospital"] in own or (sight == "owner" and row["step"] != "connect")
        ]
    if "run" in found and sight == "hospital":
        found["run"] = found["run"] | {"warnings": [], "detail": "", "last_failure": None}
    return found


def _row(row: dict[str, Any], sight: Sight, own: bool) -> dict[str, Any]:
    if own:
        return row
    if sight == "owner":
        return row | _NOT_THE_OWNERS
    return {**_PLAIN, "sizes": {}, "figures": {}} | {key: row[key] for key in _OF_OTHERS}


def sight_in_run(visitor: Visitor, hospitals: Iterable[str]) -> Sight | None:
    """As what somebody sees a federation's one run. It has no owner: a researcher whom the
    coordinator gave an account here sees it as one."""
    if visitor.sees_all:
        return "all"
    if visitor.parties("researcher"):
        return "owner"
    return "hospital" if visitor.parties("hospital") & set(hospitals) else None
