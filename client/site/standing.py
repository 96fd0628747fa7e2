"""Where the studies of a kit stand at this hospital: what waits, goes on, was decided, is over.

In a federation that is one there is one desk that plans wait on; in a network each study has one.
Nothing here decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wardround.client.site.approval import Approvals
from wardround.client.site.kit import Kit
from wardround.client.site.studies import StudyFolders
from wardround.common.audit.lines import told
from wardround.common.errors import PolicyRefused
from wardround.common.study.study import Study
from wardround.common.text import one_line


@dataclass(frozen=True)
class Desk:
    """Where the plans of one study wait. ``study``: None in a federation that is one."""

    approvals: Approvals
    study: Study | None = None
    over: str = ""

    @property
    def name(self) -> str:
        """As people name it."""
        return f"study {self.study.name} ({self.study.id[:12]})" if self.study is not None else ""


def desks(kit: Kit, wanted: str = "") -> list[Desk]:
    """All of a kit, in the order in which studies came.

    wanted : a study's name, or how its id begins. Of several with one name it is the one that goes
        on, or else the newest

    Raises PolicyRefused unless that is just one.
    """
    folders = StudyFolders(kit.state)
    found = [Desk(Approvals(kit.state, kit.identity))] if not folders.ids() else []
    for id in folders.ids():
        over = folders.over(id)
        approvals = Approvals(folders.folder(id), kit.identity)
        why = over.words if over is not None else ""
        found.append(Desk(approvals, folders.kept(id), why))
    if not wanted:
        return found
    named = [one for one in found if one.study is not None and _is_called(one.study, wanted)]
    if all(one.study is not None and one.study.name == wanted for one in named):
        named = [one for one in named if not one.over] or named[-1:]
    if len(named) != 1:
        every = ", ".join(one.name for one in named or found if one.study is not None) or "none"
        what = f"{len(named)} studies are" if named else "no study is"
        raise PolicyRefused(f"{what} called '{one_line(wanted, 80)}'; there are: {every}")
    return named


def _is_called(study: Study, wanted: str) -> bool:
    return study.name == wanted or study.id.startswith(wanted) or study.run == wanted


def what_stands(kit: Kit, every: list[Desk], named: bool) -> str:
    """What is said beside that nothing waits: where each study stands."""
    said = "".join(_standing(one) for one in every)
    if named and not said:
        said = f"; {every[0].name}: {_where(every[0], _refused(kit))}"
    return said


def is_decided(desk: Desk, yes: bool) -> bool:
    """Whether it stands as this decision would have it, of a study that isn't over."""
    if desk.over:
        return False
    if yes:
        return bool(desk.approvals.in_force()) or any(desk.approvals.decisions("approved"))
    return desk.approvals.last_rejected() is not None


def _standing(desk: Desk) -> str:
    """What was decided last, and how to change it."""
    if desk.over:
        return ""
    lines = [
        f"; run '{one.run}' goes on with plan {one.digest().hex()[:12]}: withdraw from it with "
        "--reject REASON"
        for one in desk.approvals.in_force()
    ]
    if (last := desk.approvals.last_rejected()) is not None:
        lines.append(
            f"; run '{last.manifest.run}' was rejected at {last.time} by {last.who} "
            f"({last.reason or 'no reason given'}): take part after all with --yes"
        )
    return "".join(lines)


def list_studies(folder: Path) -> list[str]:
    """Two lines for each study that this hospital was shown: where it stands here, and what it is.

    Raises PolicyRefused in a federation that is one.
    """
    kit = Kit.open(folder)
    if kit.description.config().network is None:
        raise PolicyRefused(
            f"{folder}: this federation has no studies: it is one; its plans: wardround client "
            "approve KIT"
        )
    lines, refused = [], _refused(kit)
    for desk in desks(kit):
        study = desk.study
        if study is not None:
            purpose = one_line(study.purpose, 120)
            lines.append(f"{study.id[:12]}  {study.name}  {_where(desk, refused)}")
            lines.append(f"              {study.researcher}, until {study.until}: {purpose}")
    return lines or [f"{folder}: no study was shown to this hospital yet"]


def _refused(kit: Kit) -> dict[str, str]:
    """Why this hospital's client refused a plan last, by run, as its own log has it: with files and
    columns, which nobody else is told. Of one that was accepted since nothing."""
    found = dict[str, str]()
    try:
        for line in told(kit.state / "audit.jsonl", "policy", "manifest"):
            found[str(line.get("run"))] = str(line.get("refused", ""))
    except OSError:
        return {}  # it has no log yet, or a damaged disk: the client itself says so
    return found


def _where(desk: Desk, refused: Mapping[str, str]) -> str:
    """Where a study stands at this hospital."""
    if desk.over:
        return f"over: {desk.over}"
    last = desk.approvals.last_rejected()
    if last is not None:
        return f"rejected by {last.who}: {last.reason or 'no reason given'}"
    if desk.approvals.pending():
        return "waits for approval"
    if desk.approvals.in_force():
        return "takes part"
    approved = list(desk.approvals.decisions("approved"))
    if approved:
        return f"approved by {approved[-1].who}"
    why = refused.get(desk.study.run, "") if desk.study is not None else ""
    return (
        f"not accepted: {one_line(why, 1000)}"
        if why
        else "not accepted yet: the client still looks at it (its log says more)"
    )
