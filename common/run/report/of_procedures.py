"""Reports of runs that asked instead of training: each procedure's own page."""

from __future__ import annotations

import json
from html import escape

from wardround.common.durable.files import write_atomically
from wardround.common.errors import RunDirectoryError
from wardround.common.procedures.calibrate import page as calibration
from wardround.common.procedures.calibrate import procedure as calibrated
from wardround.common.procedures.describe import figures as described
from wardround.common.procedures.describe import page as description
from wardround.common.procedures.evaluate import page as evaluation
from wardround.common.procedures.evaluate import procedure as evaluated
from wardround.common.procedures.frame import framed
from wardround.common.procedures.monitor import page as watch
from wardround.common.procedures.monitor import procedure as watched
from wardround.common.procedures.statistics import page as statistics
from wardround.common.procedures.statistics import procedure as analysed
from wardround.common.procedures.trees import page as trees
from wardround.common.procedures.trees import result as grown
from wardround.common.run.directory import RunDirectory

_PROCEDURES = (
    (described.FILE, described.FORMAT, description.page),
    (evaluated.FILE, evaluated.FORMAT, evaluation.page),
    (calibrated.CALIBRATION, calibrated.FORMAT, calibration.page),
    (watched.MONITORING, watched.FORMAT, watch.page),
    (analysed.FILE, analysed.FORMAT, statistics.page),
    (grown.FILE, grown.FORMAT, trees.page),
)
"""What procedures publish: file, format, and the page that it makes."""

_MOST_SHOWN = 200_000
"""Characters of a file of a procedure of one's own."""


def report_procedure(run: RunDirectory) -> bool:
    """Write ``report.html`` of what the run's procedure has published; False where there is no such
    thing. Raises RunDirectoryError if it can't be read."""
    for file, stored, made in _PROCEDURES:
        path = run.path / file
        if not path.is_file():
            continue
        summary = run.summary()
        try:
            found = stored.read(json.loads(path.read_text("utf-8")), RunDirectoryError, str(path))
            name, purpose = summary.get("name", run.path.name), summary.get("purpose", "")
            text = made(found, str(name), str(purpose))
        except (OSError, ValueError, KeyError, TypeError):
            raise RunDirectoryError("can't be read", who=str(path)) from None
        write_atomically(run.report, text.encode())
        return True
    return _report_files(run)


def _report_files(run: RunDirectory) -> bool:
    """Of a joint procedure or one of one's own: what it has published, as it is; its own page where
    it has one. False where the run isn't of a procedure."""
    summary = run.summary()
    if "procedure" not in summary:
        return False
    names = [str(name) for name in summary.get("published", ())]
    if run.report.name in names:
        return True
    parts = [f"<p>{escape(str(summary.get('purpose', '')))}</p>"]
    pages = [name for name in names if name.endswith(".html")]
    try:
        if len(pages) == 1:
            write_atomically(run.report, (run.path / pages[0]).read_bytes())
            return True
        for name in names:
            text = (run.path / name).read_text("utf-8")[:_MOST_SHOWN]
            parts.append(f"<h2>{escape(name)}</h2>\n<pre>{escape(text)}</pre>")
    except (OSError, ValueError):
        raise RunDirectoryError("can't be read", who=str(run.path)) from None
    title = f"{summary.get('name', run.path.name)}: {summary['procedure']}"
    write_atomically(run.report, framed(title, parts).encode())
    return True
