"""How settings name a finished model: where it lies, and its digest."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wardround.common.settings.base import PathText, Table

Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class NamedModel(Table):
    """What every table has that names a finished model. The model never travels with a request:
    each party takes its own copy, by digest."""

    model: PathText = Field(
        "",
        description=(
            "the finished model: a run's directory, its folder `model`, or to `evaluate` an ONNX "
            "export. Only its digest is told "
            "to others: each hospital takes [its own copy](judgement.md#a-finished-model)"
        ),
    )
    model_digest: Sha256 = Field(
        "",
        description=(
            "SHA-256 of the model's `files.json`; follows from `model`, and stands instead of it "
            "where the folder isn't at hand"
        ),
    )
