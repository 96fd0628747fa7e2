"""``wardround client results KIT [STUDY]``: what has come, where it lies, and whether it still is
what the server signed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from wardround.client.results.figures import OWN, REPORT, read_own
from wardround.client.results.left import LEFT, read_left
from wardround.client.results.page import number
from wardround.client.results.receiver import COMPLETE, ENDED, ENDED_FORMAT, RESULTS, End
from wardround.client.site.ledger import AUDIT
from wardround.common.audit.chain import read_log
from wardround.common.audit.verify import history
from wardround.common.errors import ResultsRefused, WardroundError
from wardround.common.results.package import list_digest, read_list, verify_folder
from wardround.common.results.places import found_in
from wardround.common.run.traffic import human_bytes

_STATE = "state"


def list_results(kit: Path, study: str = "") -> list[str]:
    """A line for each study that is over, then where its parts lie.

    study : how its run's name or its id begins; '' for all

    Raises ResultsRefused if there is none.
    """
    lines: list[str] = []
    for folder, end in _ends(kit, study):
        if isinstance(end, ResultsRefused):
            lines.append(f"{folder.name}  can't be read: {end}")
            continue
        why = f": {end.reason}" if end.reason else ""
        lines.append(f"{folder.name}  {end.state}{why}{_own(folder)}{_left(folder)}")
        if end.state == COMPLETE:
            lines += [f"  {line}" for line in found_in(folder)]
        if (page := folder / OWN / REPORT).is_file():
            lines.append(f"  own       {page}")
        lines.append(f"  what left {folder / LEFT}")
    return lines or [f"{kit / RESULTS}: no study is over yet"]


def verify_results(kit: Path, study: str = "") -> list[str]:
    """Hold results against the list that the server signed, and that against this hospital's own
    audit log, which says who signed it: a server's key may have been renewed since. A line for
    each. Raises ResultsRefused at the first that isn't right."""
    noted = _noted(kit / _STATE / AUDIT)
    lines = []
    for folder, end in _ends(kit, study):
        if isinstance(end, ResultsRefused):
            raise end
        if end.state != COMPLETE:
            lines.append(f"{folder.name}: {end.state}, so there are no results")
            continue
        signer = noted.get(list_digest(read_list(folder)))
        if signer is None:
            raise ResultsRefused("isn't the list that the audit log has", who=str(folder))
        package = verify_folder(folder, bytes.fromhex(signer))
        lines.append(
            f"{folder.name}: {len(package.files)} files as the server signed them and the audit "
            "log has them"
        )
    return lines or [f"{kit / RESULTS}: no study is over yet"]


def _ends(kit: Path, study: str) -> Iterator[tuple[Path, End | ResultsRefused]]:
    """Folders of results with how their studies ended, in the order in which they came."""
    place = kit / RESULTS
    found = (
        [path for path in place.glob("*/") if (path / ENDED).is_file()] if place.is_dir() else []
    )
    ordered = sorted(found, key=lambda path: ((path / ENDED).stat().st_mtime, path.name))
    asked = 0
    for folder in ordered:
        end = _end(folder)
        id_ = end.study if isinstance(end, End) else ""
        if study and not folder.name.startswith(study) and not id_.startswith(study):
            continue
        asked += 1
        yield folder, end
    if study and not asked:
        names = ", ".join(path.name for path in ordered) or "none"
        raise ResultsRefused(f"{place}: no results of '{study}'; there are those of {names}")


def _end(folder: Path) -> End | ResultsRefused:
    path = folder / ENDED
    try:
        stored = json.loads(path.read_text("utf-8"))
        return ENDED_FORMAT.make(End, stored, ResultsRefused, str(path))
    except ResultsRefused as error:
        return error
    except (OSError, ValueError):
        return ResultsRefused("can't be read", who=str(path), mend=ENDED_FORMAT.mend)


def _own(folder: Path) -> str:
    try:
        own = read_own(folder)
    except WardroundError:
        return ""
    value = own.figures.get("test", {}).get(own.primary)
    return f"; own {own.primary} on test rows {number(value)}" if value is not None else ""


def _left(folder: Path) -> str:
    try:
        return f"; {human_bytes(read_left(folder).size_bytes)} left"
    except WardroundError:
        return ""


def _noted(audit: Path) -> dict[str, str]:
    """Digests of the lists that the audit log tells of, with the key of who signed them."""
    found: dict[str, str] = {}
    for log in history(read_log(audit)):
        for _, line in log.sound():
            if line.event == "results" and line.values.get("digest"):
                found[str(line.values["digest"])] = str(line.values["signer"])
    return found
