"""``wardround init --data``: what lies there decides which task is begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError, DataError
from wardround.common.tasks.data.shards import visible
from wardround.simulations.beginning.begin import begin, dialect_of, looked_at, relative
from wardround.simulations.beginning.check import problems
from wardround.simulations.beginning.image_sets import ImageSets, find_images
from wardround.simulations.beginning.images import (
    data_path,
    decide_images,
    images_tables,
    images_text,
    titles_of,
)
from wardround.simulations.beginning.looked import Looked
from wardround.simulations.beginning.show import columns_table, hospitals_table
from wardround.simulations.beginning.text import dialect_lines
from wardround.simulations.beginning.text_lines import find_lines
from wardround.simulations.beginning.text_tables import text_study
from wardround.simulations.beginning.text_tags import find_tags
from wardround.simulations.beginning.texts import TextStudy, study_file, study_tables


def start(
    path: Path,
    data: Path,
    target: str | None = None,
    positive: Sequence[str] = (),
    dialect: Sequence[str] = (),
    statistics: bool = False,
) -> Looked:
    """Look at ``data``, decide, try what was decided, and make the text of a ``federation.toml``
    that will lie at ``path``.

    target : of tables a column's name; of images the column of their classes
    positive : texts of the target, or the class, that mean 1
    dialect : 'key=value' of ``[task.dialect]``, where a table can be read in two ways
    statistics : of tables, a study of statistics is made instead

    Raises ConfigError where the researcher must say more, and DataError with every problem of every
    file, a line each.
    """
    if not data.exists():
        raise DataError(f"{data}: no such file or folder; check --data")
    _check_no_omop(data)
    if (sets := find_images(data, target)) is not None:
        _only_for_tables("images", dialect, statistics)
        return _images(path, data, sets, positive)
    if (study := find_tags(data) or find_lines(data)) is not None:
        _only_for_tables("texts", dialect, statistics)
        if target is not None or positive:
            raise ConfigError("--target and --positive are for tables and images; leave them out")
        return _texts(path, study)
    keys, known = dialect_of(dialect)
    found = looked_at(data, known)
    if not statistics and (study := text_study(found, target, positive)) is not None:
        return _texts(path, study, dialect_lines(keys))
    begun = begin(path, found, target, positive, keys, statistics)
    decision = begun.decision
    return Looked(
        begun.text,
        (hospitals_table(found), columns_table(decision)),
        (*found.notes, *decision.told, *decision.problems),
    )


def _only_for_tables(what: str, dialect: Sequence[str], statistics: bool) -> None:
    """Raise ConfigError for an option that would have no effect."""
    if dialect:
        raise ConfigError(f"--dialect is for tables, and there are {what}; leave it out")
    if statistics:
        raise ConfigError(f"--statistics is for tables, and there are {what}; leave it out")


def _check_no_omop(data: Path) -> None:
    """Raise ConfigError for OMOP tables as files: each would be taken for a hospital."""
    names = {one.stem.casefold() for one in visible(data)} if data.is_dir() else set()
    if {"person", "visit_occurrence"} <= names or {"person", "measurement"} <= names:
        raise ConfigError(
            f"{data}: tables of the OMOP Common Data Model: which patients, which event and which "
            "values a study asks can't be guessed: write them as [cohort] (docs/data.md#cohorts); "
            'the tables are read in a hospital\'s database ([data.NAME] source = "omop" in its '
            "site.toml)"
        )


def _texts(path: Path, study: TextStudy, dialect: Sequence[str] = ()) -> Looked:
    study = replace(study, more=[*study.more, *dialect])
    text = study_file(study, relative(study.path, path))
    if wrong := problems(parse_config(text, path=path)):
        raise DataError("\n".join(wrong))
    return Looked(text, study_tables(study), study.told)


def _images(path: Path, data: Path, sets: ImageSets, positive: Sequence[str]) -> Looked:
    found = decide_images(sets, positive)
    if not sets.one_set:
        titles_of(sets)
    text = images_text(found, relative(data_path(found, data), path))
    if wrong := problems(parse_config(text, path=path)):
        raise DataError("\n".join(wrong))
    return Looked(text, images_tables(found), found.told)
