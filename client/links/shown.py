"""A kit's links for people: ``wardround link``."""

from __future__ import annotations

import getpass
from pathlib import Path

from wardround.client.links.forget import forget
from wardround.client.links.helped import Helped
from wardround.client.links.kept import FOLDER, Kept, Record
from wardround.common.errors import ProvisionError
from wardround.common.text import one_line
from wardround.common.trust.pki import now_utc


def listed(state: Path) -> list[str]:
    """Two lines for each link, and what was counted of each other party. Raises ProvisionError.

    state : a kit's
    """
    lines = []
    for one in Kept(state / FOLDER).records():
        lines.append(f"{_text(one.name)}  {one.persons} persons  with {_names(one.parties)}")
        lines.append(f"    made {one.made} for {_uses(one)}")
    helped = Helped(state / FOLDER)
    for party in helped.parties():
        total = helped.total(party)
        many = f"{total.linkages} linkage{'s' * (total.linkages != 1)}"
        lines.append(f"helped {_text(party)}: {many}, {total.ids} identifiers")
    return lines or ["no link is kept here, and no linkage was helped"]


def shown(state: Path, name: str) -> list[str]:
    """A link's lines. Raises ProvisionError where there is none."""
    record = Kept(state / FOLDER).find(name)
    if record is None:
        raise _none(state, name)
    rules = "; ".join(f"{_text(key)} ({_text(kind)})" for key, kind in record.identifiers.items())
    asked = f", asked by {_text(record.asked_by)}" if record.asked_by else ""
    rows = [
        ("link", _text(record.name)),
        ("persons", str(record.persons)),
        ("parties", _names(record.parties)),
        ("identifiers", rules or "unknown"),
        ("for studies", _uses(record)),
        ("made", f"{record.made} by run {_text(record.run)}{asked}"),
        ("digest", record.digest),
    ]
    return [f"{name:<12} {text}" for name, text in rows]


def forgotten(state: Path, name: str) -> str:
    """Forget a link; a line that says so. Raises ProvisionError where there is none."""
    when = now_utc().isoformat(timespec="seconds")
    record = forget(state / FOLDER, name, _user(), when)
    if record is None:
        raise _none(state, name)
    return f"forgotten: link '{_text(record.name)}' of {record.persons} persons"


def _none(state: Path, name: str) -> ProvisionError:
    there = [_text(one.name) for one in Kept(state / FOLDER).records()]
    return ProvisionError(
        f"there is no link '{_text(name)}' here; there are: {', '.join(there) or 'none'}"
    )


def _uses(record: Record) -> str:
    named = ", ".join(map(_text, record.used_by))
    return f"studies named {named}" if named else f"studies named {_text(record.name)}"


def _names(names: list[str]) -> str:
    return ", ".join(map(_text, names))


def _text(text: str) -> str:
    return one_line(text, 200)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"
