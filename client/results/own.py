"""A hospital's own figures of a study's model: worked out at home, and never sent.

    own/figures.json    figures by split, beside those of all hospitals; rows; notes
    own/report.html     the same for people (``page.py``)
    own/reference.json  what later rows are held against (``own_reference.py``)

The same evaluation as a request for figures gets, on the same held-out rows. A hospital without
such rows, with one row, or without a class is told so in a sentence: nothing of it is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path

from torch import nn

from wardround.client.data.hospital import Hospital
from wardround.client.results.figures import FIGURES, FORMAT, OWN, REPORT, Figures, OwnFigures
from wardround.client.results.joining import load_results, model_folder
from wardround.client.results.left import Left, read_left
from wardround.client.results.own_reference import write_reference
from wardround.client.results.page import page
from wardround.client.results.theirs import Theirs, plain
from wardround.client.training.evaluation import evaluate_model
from wardround.common.durable.files import write_atomically
from wardround.common.durable.private import private_folder
from wardround.common.errors import WardroundError
from wardround.common.figures.curves import Groups
from wardround.common.figures.figure import FigureTable
from wardround.common.figures.sums import Sums
from wardround.common.model.saved import PREPARATION
from wardround.common.protocol.names import HELD_OUT
from wardround.common.results.package import file_digest
from wardround.common.run.curves import Curves
from wardround.common.run.sums import KeptSums
from wardround.common.text import to_json

log = logging.getLogger("wardround.client")

FEW_ROWS = 30


def own_figures(hospital: Hospital, folder: Path) -> OwnFigures:
    """Work out and write what ``folder``, of results as they came, says of this hospital.

    Raises OSError where it can't be written, ResultsRefused if ``left.json`` isn't there.
    """
    left, notes = read_left(folder), list[str]()
    shared = Theirs.read(folder)
    table = hospital.task.figure_table()
    curves: dict[str, Curves] = {}
    found = OwnFigures(
        study=left.study,
        run=left.run,
        hospital=hospital.name,
        round=shared.round,
        primary=table.primary.name,
        rows=hospital.sizes(),
        all_rows=shared.rows,
        figures=_evaluated(hospital, folder, {"test", *shared.rows, *shared.figures}, notes, curves)
        if hospital.config.procedure.trains
        else {},
        federation=shared.figures,
        notes=notes,
    )
    for split, one in curves.items():
        found.intervals[split] = {name: list(span) for name, span in one.intervals.items()}
        if "" in one.groups:
            found.curves[split] = asdict(one.groups[""])
    if not hospital.config.procedure.trains:
        notes.append(
            "No model was trained: what was asked of the data of all hospitals is in report.html."
        )
    elif not shared.figures:
        notes.append(
            "The results hold no figures of all hospitals together: too few had held-out rows, or "
            "each could have told another's."
        )
    write_own(folder, found, table, left, shared.purpose, shared.curves)
    return found


def write_own(
    folder: Path,
    found: OwnFigures,
    table: FigureTable,
    left: Left,
    purpose: str = "",
    theirs: Mapping[str, Groups] | None = None,
) -> None:
    """Write both files. Raises OSError. ``purpose``: the study's, for people. ``theirs``: score
    groups of all hospitals, by split."""
    private_folder(folder / OWN)
    text = to_json(FORMAT.seal(vars(found)), indent=1)
    write_atomically(folder / OWN / FIGURES, text.encode(), private=True)
    write_atomically(
        folder / OWN / REPORT,
        page(found, table, left, purpose, theirs or {}).encode(),
        private=True,
    )


# --- at home ----------------------------------------------------------------------------------
def _evaluated(
    hospital: Hospital,
    folder: Path,
    theirs: Collection[str],
    notes: list[str],
    curves: dict[str, Curves],
) -> dict[str, Figures]:
    """Figures by split; what can be drawn is put into ``curves``. Whatever fails is a note: by type
    where its text might quote a cell; also that rows are missing which others have (``theirs``)."""
    try:
        model, totals = load_results(hospital, folder)
        digest = file_digest(model_folder(hospital, folder) / PREPARATION)
        examples = hospital.examples(totals, f"results {digest}")
    except WardroundError as error:
        notes.append(f"The model can't be evaluated here: {error.what or error}.")
        log.warning("%s", error)
        return {}
    except Exception as error:
        notes.append(f"The model can't be evaluated here ({type(error).__name__}).")
        log.debug("own figures failed", exc_info=True)
        return {}
    found = {}
    for split in HELD_OUT:
        if split not in examples:
            if split in theirs:
                notes.append(f"This hospital has no {split} rows.")
            continue
        try:
            sums = evaluate_model(model, examples[split], hospital.task, hospital.config.training)
            found[split] = plain(hospital.task.summarise(sums))
            kept = KeptSums(0, {split: sums})
            curves[split] = Curves.of(kept, split, found[split])
        except Exception as error:  # a task of one's own may do what it likes with few rows
            notes.append(f"Its {split} rows allow no figures ({type(error).__name__}).")
            log.debug("own figures failed", exc_info=True)
            continue
        if (rows := len(examples[split])) < FEW_ROWS:
            ones = "one row" if rows == 1 else f"{rows} rows"
            notes.append(f"Of {ones} ({split}) a figure says little.")
        if undefined := [name for name, value in found[split].items() if value is None]:
            notes.append(
                f"On its {split} rows {', '.join(sorted(undefined))} can't be had: they lack a "
                "class or an event that is needed for it, or the model predicts none."
            )
    _keep_reference(hospital, folder, model, totals, notes)
    return found


def _keep_reference(
    hospital: Hospital, folder: Path, model: nn.Module, totals: Sums, notes: list[str]
) -> None:
    """That there is none is a note: figures are had without it."""
    try:
        private_folder(folder / OWN)
        write_reference(hospital, folder, model, totals)
    except Exception as error:  # its text might quote a cell
        notes.append(f"There is no reference to watch the model with ({type(error).__name__}).")
        log.debug("own reference failed", exc_info=True)
