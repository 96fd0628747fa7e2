"""This hospital's own copy of a finished model that a study names: found by its digest.

    KIT/results/RUN/model/    as the server signed it
    KIT/models/NAME/          what the hospital's IT put there, an export too

The model never comes with a request. What is found must be whole, and signed by the server of the
kit's description or by this hospital: of an export both the graph and the model that it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wardround.client.site.hold_back import check_held_back
from wardround.client.site.kit import Kit
from wardround.client.site.terms import Terms
from wardround.common.config.finished import FILES, FOLDER, model_digest
from wardround.common.config.load import Config
from wardround.common.errors import ModelRefused
from wardround.common.export.finished import FinishedExport, finished_model
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.trust.pki import now_utc

RESULTS, MODELS = "results", "models"


def named_model(terms: Terms) -> ModelFolder | FinishedExport:
    """The finished model that a study's settings name, for its work here.

    A teacher reads columns of its own, which no person here was shown: what is held back from
    studies is held back from it as well. Raises ModelRefused, PolicyRefused.
    """
    found = own_copy(terms.kit, terms.config)
    if terms.config.teacher is not None:
        whose = getattr(terms.data.source, "patient_id", None)
        check_held_back(terms.site, found.config, terms.data.is_taken, whose)
    return found


def own_copy(kit: Kit, config: Config) -> ModelFolder | FinishedExport:
    """The model of the digest that the settings have.

    config : this hospital's settings, whose own copies of task and encoder the model is loaded with

    Raises ModelRefused, with the mend, where there is none, or it was altered, is past its last day
    or isn't signed by who may.
    """
    options = config.finished
    assert options is not None
    digest = options.model_digest
    for folder in _folders(kit.folder):
        if _digest(folder) == digest:
            break
    else:
        raise ModelRefused(
            f"this hospital has no model of digest {digest[:16]}..., which the study names",
            mend="put its folder into KIT/models, or let its results come",
        )
    found = finished_model(folder, config, alone=True)
    found.check({kit.description.server, kit.identity.public}, now_utc().date())
    return found


def _folders(kit: Path) -> Iterator[Path]:
    for within in (RESULTS, MODELS):
        for path in sorted((kit / within).glob("*/")):
            if not path.name.startswith("."):
                yield from (one for one in (path, path / FOLDER) if (one / FILES).is_file())


def _digest(folder: Path) -> str:
    try:
        return model_digest(folder)
    except OSError:
        return ""
