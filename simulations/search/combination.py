"""One run of a sweep, as ``sweep.json`` holds it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from wardround.simulations.search.runs import Figures


class Combination(BaseModel):
    """One run of a sweep.

    point : which settings; the seeds of the same settings share it
    config_digest : SHA-256 of the combination's ``federation.toml``
    reason : why it failed, in one line
    run : the run directory, from the sweep's folder
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    point: int
    settings: dict[str, Any]
    seed: int
    config_digest: str
    status: Literal["pending", "running", "complete", "failed"] = "pending"
    reason: str | None = None
    run: str | None = None
    figures: Figures | None = None
