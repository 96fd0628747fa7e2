"""The hospital's own rows for a finished model: read, mapped and held back as for a study of it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wardround.client.models.find import rules_of, settings_of
from wardround.client.site.held_out import held_out_key
from wardround.client.site.hold_back import check_held_back
from wardround.client.site.kit import Kit
from wardround.client.site.opted_out import OptedOut, opt_out_path, patients_key
from wardround.client.site.policy import SitePolicy, load_site
from wardround.client.site.terms import unknown_data
from wardround.client.sources.kept import Located
from wardround.client.sources.settings import FilesTable, RowsTable
from wardround.client.sources.snapshot import fill_folder, take_rows
from wardround.client.sources.source import Asked
from wardround.common.durable.private import private_folder
from wardround.common.errors import DataError
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.tasks.data.allowance import allowing

log = logging.getLogger("wardround.client")
_TAKEN = ".rows-"


@contextmanager
def rows_for(
    kit: Kit,
    folder: ModelFolder,
    data: str = "",
    *,
    targets: bool = True,
    read: Callable[[Any, Path], Any] | None = None,
) -> Iterator[Any]:
    """The rows, in the form of the model's task. They are good within the ``with`` only: what is
    taken of a source, or doesn't fit into memory, lies in a private folder of the kit meanwhile.

    Parameters
    ----------
    data : NAME of [data.NAME] in site.toml, or a path; '' where site.toml names one only
    targets : only rows with a target, as a study reads them; else all, without looking at one
    read : reads a path as the task's rows in another way than both

    Who has opted out is not among them. Raises DataError by place, PolicyRefused for columns or
    codes that this hospital holds back, OSError.
    """
    located = locate(load_site(kit.site_path), data)
    site, config, task = rules_of(kit, folder), settings_of(folder), folder.task
    whose = getattr(located.source, "patient_id", None)
    check_held_back(site, config, located.is_taken, whose)
    private_folder(kit.state)
    with tempfile.TemporaryDirectory(prefix=_TAKEN, dir=kit.state) as place:
        path = located.path
        if located.is_taken:
            columns, modalities = tuple(site.columns), tuple(site.modalities)
            asked = Asked(config, located.base, located.name, log.info, columns, modalities)
            path = _taken(located, asked, Path(place))
        assert path is not None
        try:
            with allowing(located.left_out_share):
                if read is not None:
                    raw = read(task, path)
                elif targets:
                    raw = task.load_large(path, private_folder(Path(place) / "prepared"))
                else:
                    raw = task.load_rows(path)
        except DataError as error:
            raise DataError(located.own_words(str(error))) from None
        yield _without_opted_out(kit, load_site(kit.site_path), task, raw)


def locate(site: SitePolicy, data: str) -> Located:
    """Where data that a person names are. Raises DataError where there are none of that name."""
    if not data and len(site.data) == 1:
        return site.located(next(iter(site.data)))
    if data in site.data:
        return site.located(data)
    if not data:
        names = ", ".join(site.data)
        raise DataError(
            f"name the data: --data NAME, of {names}" if names else "name the data: --data PATH"
        )
    if not Path(data).exists():
        raise DataError(unknown_data(Path(data), site.data))
    return Located(Path(data))


def _taken(located: Located, asked: Asked, place: Path) -> Path:
    """The rows or files that a source gives now."""
    source = located.source
    if isinstance(source, RowsTable):
        path = place / "rows.parquet"
        taken = take_rows(source, asked, path)
    else:
        assert isinstance(source, FilesTable)
        path = private_folder(place / "files")
        taken = fill_folder(source, asked, path)
    for one in taken.left_out:
        log.warning("%s: %s", asked.called, one)
    return path


def _without_opted_out(kit: Kit, site: SitePolicy, task: Any, raw: Any) -> Any:
    key = patients_key(held_out_key(site, kit.folder))
    return OptedOut(opt_out_path(site, kit.folder), key, site.opt_out is not None).without(
        task, raw
    )
