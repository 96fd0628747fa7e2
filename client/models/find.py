"""Which model is meant, and whether it may be used: ``find_model``.

    KIT/results/RUN/model/    of a study's results, as the server signed it
    KIT/models/NAME/          what the hospital put there itself, or made here, such as an export

Trusted are the server of the kit's description, the hospital itself, and, of a model that came with
results which this hospital's own audit log tells of, whoever signed these (a server's key may have
been renewed since).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from wardround.client.models.signers import trusted_keys
from wardround.client.results.receiver import ENDED, RESULTS
from wardround.client.site.kit import Kit
from wardround.client.site.policy import SitePolicy, load_site
from wardround.common.config.load import Config, load_config
from wardround.common.errors import ModelRefused
from wardround.common.model_folder.folder import FOLDER, ModelFolder
from wardround.common.model_folder.schema_file import CONFIG
from wardround.common.settings import pretrained
from wardround.common.text import near, one_line
from wardround.common.trust.pki import now_utc

MODELS = "models"
"""In a hospital's kit."""
_SHOWN = 8


def find_model(
    kit: Kit, text: str = "", *, unsigned: bool = False, today: date | None = None
) -> ModelFolder:
    """The model that ``text`` names, whole and unaltered.

    Parameters
    ----------
    text : a run's name in KIT/results (or how it begins, where one does), a folder's in KIT/models,
        or a path; '' for the newest results
    unsigned : a model that nobody signed (a simulation's) will do
    today : defaults to this machine's clock, UTC

    Raises ModelRefused if there is none, or it was altered, isn't of who may sign here, or is past
    its last day; PolicyRefused where the hospital has no own copy of the task's file or encoder.
    """
    found = open_model(kit, _path(kit, text))
    if not (unsigned and not found.listed.signer):
        found.check(trusted_keys(kit, found.digest), today or now_utc().date())
    return found


def open_model(kit: Kit, path: Path) -> ModelFolder:
    """A folder's model with this hospital's own copies of what never travels; who signed it isn't
    asked. Raises as ``find_model``."""
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    came = path.resolve().is_relative_to(kit.folder.resolve())  # others have put it there
    if not (folder / CONFIG).is_file():
        return ModelFolder.open(path, alone=came)  # an older one, or none: it says so
    site, config = load_site(kit.site_path), load_config(folder / CONFIG)
    task = encoder = ""
    if ":" in config.task.name:
        task = f"{site.task_file(config)}:{config.task.name.rpartition(':')[2]}"
    elif pretrained(config.task) and site.encoder is not None:
        encoder = str(site.encoder_folder(config))
    return ModelFolder.open(path, task=task, encoder=encoder, alone=came)


def rules_of(kit: Kit, folder: ModelFolder) -> SitePolicy:
    """The hospital's rules for what this model is given: those of the study that it is of."""
    site, listed = load_site(kit.site_path), folder.listed
    if not listed.study:
        return site
    return site.for_study(listed.run.removesuffix(f"-{listed.study[:16]}"))


def settings_of(folder: ModelFolder) -> Config:
    """The model's settings, for reading rows: what a study says that it takes of a machine is for
    training."""
    return folder.config.model_copy(update={"needs": None})


# --- which ----------------------------------------------------------------------------------------
def _path(kit: Kit, text: str) -> Path:
    results = list(_results(kit))
    if not text:
        if not results:
            raise ModelRefused(
                "no study has brought a model yet",
                who=str(kit.folder / RESULTS),
                mend="name one: --model PATH",
            )
        return results[-1]
    named = {path.name: path for path in [*_models(kit), *results]}
    if text in named:
        return named[text]
    begins = [path for name, path in named.items() if name.startswith(text)]
    if len(begins) == 1:
        return begins[0]
    if Path(text).is_dir():
        return Path(text)
    known = ", ".join(list(named)[:_SHOWN]) or "none"
    hint = near(text, named)
    raise ModelRefused(
        f"'{one_line(text, 200)}' is no model of this kit, and no folder",
        who=str(kit.folder),
        mend=f"there are: {known}" + (f"; is it {hint}?" if hint else ""),
    )


def _results(kit: Kit) -> Iterator[Path]:
    """Results with a model, in the order in which they came."""
    found = [
        path
        for path in (kit.folder / RESULTS).glob("*/")
        if not path.name.startswith(".") and (path / FOLDER).is_dir() and (path / ENDED).is_file()
    ]
    yield from sorted(found, key=lambda path: ((path / ENDED).stat().st_mtime, path.name))


def _models(kit: Kit) -> Iterator[Path]:
    found = (kit.folder / MODELS).glob("*/")
    yield from sorted(path for path in found if not path.name.startswith("."))
