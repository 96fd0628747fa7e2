"""``wardround init --data``: what lies there decides which task is begun."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError, DataError
from wardround.simulations.beginning.begin import begin, relative
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


def start(
    path: Path,
    data: Path,
    target: str | None = None,
    positive: Sequence[str] = (),
    dialect: Sequence[str] = (),
    statistics: bool = False,
) -> Looked:
    """Look at ``data``, decide, and try what was decided. Parameters and errors are those of
    ``begin``, which looks at tables."""
    if not data.exists():
        raise DataError(f"{data}: no such file or folder; check --data")
    if (sets := find_images(data, target)) is not None:
        _only_for_tables("images", dialect, statistics)
        return _images(path, data, sets, positive)
    begun = begin(path, data, target, positive, dialect, statistics)
    decision, found = begun.decision, begun.found
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


def _images(path: Path, data: Path, sets: ImageSets, positive: Sequence[str]) -> Looked:
    found = decide_images(sets, positive)
    if not sets.one_set:
        titles_of(sets)
    text = images_text(found, relative(data_path(found, data), path))
    if wrong := problems(parse_config(text, path=path)):
        raise DataError("\n".join(wrong))
    return Looked(text, images_tables(found), found.told)
