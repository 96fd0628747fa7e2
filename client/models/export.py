"""A model exported at a hospital: with its own layers, and its own scale and medians, inside.

Such an export tells what these are (a mean, a median: of all training rows together), so it is the
hospital's own, as its rows are: it lies in the kit, private, signed by the hospital, and leaves by
a person's hand only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wardround.client.data.splitting import split_rows
from wardround.client.models.find import MODELS, find_model, settings_of
from wardround.client.models.outputs import own_module
from wardround.client.models.rows import rows_for
from wardround.client.site.held_out import held_out_key
from wardround.client.site.kit import Kit
from wardround.client.site.policy import load_site
from wardround.common.durable.private import private_folder
from wardround.common.errors import CheckpointError, DataError, ModelRefused
from wardround.common.export.exporting import export_model
from wardround.common.export.folder import ExportFolder
from wardround.common.export.info import Form
from wardround.common.export.source import Source
from wardround.common.model_folder.folder import ModelFolder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


def export_at_home(
    kit: Kit,
    data: str = "",
    model: str = "",
    *,
    form: Form = "onnx",
    out: Path | None = None,
    openssf: EllipticCurvePrivateKey | None = None,
    unsigned: bool = False,
) -> ExportFolder:
    """Export a model of this kit, signed by this hospital.

    Parameters
    ----------
    data : NAME of [data.NAME] in site.toml, or a path: read only where the model's preparation
        takes the hospital's own training rows
    model, unsigned : as ``find_model``
    out : default: KIT/models, by the run's name and the form

    Raises ModelRefused, DataError, PolicyRefused, ProvisionError, OSError.
    """
    folder = find_model(kit, model, unsigned=unsigned)
    if out is None:
        private_folder(kit.folder / MODELS)
        out = kit.folder / MODELS / f"{folder.listed.run}-{form}"
    try:
        module = own_module(kit, folder) if folder.personal else None
    except CheckpointError as error:
        raise ModelRefused(str(error)) from None
    own_rows = bool(folder.task.own_statistics())
    hospital = kit.name if folder.personal or own_rows else None

    def export(train: Any) -> ExportFolder:
        source = Source.of(folder, hospital, train, module)
        return export_model(source, out, form, kit.identity, openssf)

    if not own_rows:
        return export(None)
    with rows_for(kit, folder, data) as raw:
        return export(_training_part(kit, folder, raw))


def _training_part(kit: Kit, folder: ModelFolder, raw: Any) -> Any:
    """The rows that a study of this model trains on here. Raises DataError if there are none."""
    key = held_out_key(load_site(kit.site_path), kit.folder)
    rows = split_rows(folder.task, raw, settings_of(folder), key)["train"]
    if not len(rows):
        raise DataError("none of these rows would be trained on, so they say no scale or median")
    return folder.task.select(raw, rows)
