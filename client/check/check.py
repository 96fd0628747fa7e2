"""All of a check, from terms to what is shown."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from wardround.client.check.columns import Columns
from wardround.client.check.finding import Checked, Finding, worst
from wardround.client.check.look import Looked, look
from wardround.client.check.party import party_columns, party_findings
from wardround.client.check.rows import row_findings
from wardround.client.check.task import Loaded, load
from wardround.client.site.hold_back import check_held_back
from wardround.client.site.terms import Terms
from wardround.common.config.task import make_task
from wardround.common.durable.private import private_folder
from wardround.common.errors import PolicyRefused
from wardround.common.tasks.data.snapshot import PATIENT
from wardround.common.tasks.linked import LinkedTask
from wardround.common.tasks.tabular import TabularTask

_TAKEN = ".check-"
_ORDER = {"error": 0, "warning": 1, "ok": 2}


def checked(terms: Terms, now: datetime) -> Checked:
    """Hold the data of these terms against their question. Raises WardroundError for settings that
    make no task; what is wrong with the data is among the findings.

    now : by the hospital's clock, without a zone

    What is taken of a source lies in a private folder of the kit's ``state`` while this runs.
    """
    private_folder(terms.kit.state)
    _sweep(terms.kit.state, now)
    folder = Path(tempfile.mkdtemp(prefix=_TAKEN, dir=terms.kit.state))
    try:
        return _checked(terms, look(terms, folder), now)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(state: Path, now: datetime) -> None:
    """Remove what a check has left that was killed."""
    for one in state.glob(f"{_TAKEN}*"):
        if one.stat().st_mtime < (now - timedelta(days=1)).timestamp():
            shutil.rmtree(one, ignore_errors=True)


def _checked(terms: Terms, looked: Looked, now: datetime) -> Checked:
    task, table = make_task(terms.config), looked.table
    findings, shown = [*_held_back(terms), *looked.findings], []
    if isinstance(task, TabularTask) and table is not None:
        own = table.drop_columns([PATIENT]) if PATIENT in table.column_names else table
        columns = Columns(terms, looked, own, task.options)
        findings += columns.findings()
        findings += row_findings(looked, table, columns.profile, task.options, now)
        shown = columns.shown()
    elif isinstance(task, LinkedTask) and table is not None:
        findings += party_findings(terms, looked, table, task.options)
        shown = party_columns(terms, looked, table, task.options)
    readable = table is not None or not looked.findings
    loaded = Loaded()
    if readable and worst(findings) != "error":
        loaded = load(terms, looked.called, looked.path)
        findings += loaded.findings
    study = terms.study
    return Checked(
        f"study '{study.name}'" if study is not None else terms.kit.description.federation,
        looked.called,
        sorted(_distinct(findings), key=lambda one: _ORDER[one.state]),
        loaded.rows,
        shown,
        loaded.parts,
        loaded.labels,
    )


def _held_back(terms: Terms) -> Iterator[Finding]:
    """What the hospital's own rules refuse of the question, as a plan of it would be."""
    whose = getattr(terms.data.source, "patient_id", None)
    try:
        check_held_back(terms.site, terms.config, terms.data.is_taken, whose)
    except PolicyRefused as error:
        yield Finding("error", "this hospital's rules", str(error))


def _distinct(findings: list[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))
