"""What the database says of a study, held against what was signed.

A study's id is the digest of all that it says. So whoever can write the database, and has no key,
can't give one study another's owner, hospitals, name or end: what is run, and who gets its results,
is as its researcher signed it.
"""

from __future__ import annotations

from wardround.common.errors import StudyRefused
from wardround.common.study.study import SignedStudy, Study
from wardround.server.studies.rows import StudyRow
from wardround.server.studies.store import StudyStore


def asked(store: StudyStore, row: StudyRow) -> Study:
    """What the study of a row asks. Raises StudyRefused unless it is what the row says."""
    study = SignedStudy.known(store.body(row.id))
    signed = {
        "id": study.id,
        "name": study.name,
        "researcher": study.researcher,
        "hospitals": study.hospitals,
        "ends": study.end.timestamp(),
    }
    for what, value in signed.items():
        found = getattr(row, what)
        if (tuple(sorted(found)) if what == "hospitals" else found) != value:
            raise StudyRefused(
                f"the database has other {what} than were signed: it was altered",
                who=f"study {row.id[:12]}",
                mend="bring a database back that wasn't",
            )
    return study
