"""Which rows a model hasn't learnt from: only such say how good it is, or how to correct it."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from wardround.client.data.splitting import split_rows
from wardround.client.site.held_out import held_out_key
from wardround.client.site.kit import Kit
from wardround.client.site.opted_out import patients_key
from wardround.client.site.policy import load_site
from wardround.client.site.trained import Trained
from wardround.common.errors import DataError
from wardround.common.model_folder.folder import ModelFolder

log = logging.getLogger("wardround.client")
NOT_KNOWN = (
    "Whether the model was trained on some of these rows isn't known here, as nothing says whose "
    "they were: of data that it was trained on, use the held-out rows only (--held-out)."
)


def unseen(kit: Kit, folder: ModelFolder, raw: Any, held_out: bool = False) -> tuple[Any, str]:
    """The rows of patients that this model wasn't trained on here, and what can't be known of that;
    '' where all is.

    held_out : only rows that the hospital's key holds out of the study's own data

    Raises DataError where none is left.
    """
    task, site = folder.task, load_site(kit.site_path)
    key = held_out_key(site, kit.folder)
    if held_out:
        split = split_rows(task, raw, folder.config, key)
        rows = np.sort(np.concatenate([split["validation"], split["test"]]))
        return _left(task, raw, rows, "none of these rows is held out"), ""
    people = task.people(raw)
    if people is None or not task.names_all(raw):
        return raw, NOT_KNOWN
    trained = Trained(kit.state, patients_key(key)).trained_on(folder.listed.run, people)
    if trained is None:
        return raw, NOT_KNOWN
    rows = np.flatnonzero(~trained).astype(np.int64)
    if len(rows) < len(trained):
        log.info("%d rows are of patients that the model was trained on", len(trained) - len(rows))
    return _left(task, raw, rows, "the model was trained on all patients of these rows"), ""


def _left(task: Any, raw: Any, rows: Any, none: str) -> Any:
    if len(rows) == 0:
        raise DataError(none, mend="bring rows of patients that it hasn't seen")
    return task.select(raw, rows)
