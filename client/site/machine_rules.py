"""Keys of ``site.toml`` on the hospital's machine and its own copies: what computes, with what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from wardround.common.settings import Engine, Precision, Table, TrainingTable

TaskFile = Annotated[str, Field(pattern=r"^[^/\\:]{1,150}:[A-Za-z_]\w{0,99}$")]
LocalFile = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]


class MachineRules(Table):
    """What a study computes with at this hospital; none of it leaves."""

    max_memory_gb: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="most memory that a study may say it needs (`[needs]`), GiB",
    )
    max_disk_gb: float | None = Field(None, gt=0, le=1e6, description="most disk, likewise")
    max_hours: float | None = Field(
        None, gt=0, le=24 * 366, description="most hours of computing, likewise"
    )
    threads: int | None = Field(
        None, ge=1, le=64, description="processor threads for masks; left out: the federation's"
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$",
        description=(
            "the first GPU that torch can use, else the CPU; `cpu`, `mps`, `cuda:1`. The log's "
            "first lines and `doctor` say which, and what lies idle. The federation's is for "
            "simulations"
        ),
    )
    processes: int | None = Field(
        None,
        ge=1,
        le=64,
        description=(
            "that train together, on a GPU each: [training](training.md#several-gpus); left out: "
            "the federation's"
        ),
    )
    precision: Precision | None = Field(
        None,
        description=(
            "`fp16` on a GPU: [training](training.md#precision); left out: the federation's"
        ),
    )
    engine: Engine | None = Field(
        None,
        description=(
            "what forms units' gradients under `[privacy]`: [engines](privacy.md#engines); left "
            "out: the federation's"
        ),
    )
    encoder: LocalFile | None = Field(
        None,
        description=(
            "this hospital's copy of the folder that the federation's `task.encoder` names (or "
            "folder or GGUF file, `task.base_model`), from this file's folder; its files must be "
            "the others'"
        ),
    )
    task_files: dict[TaskFile, LocalFile] = Field(
        {},
        max_length=100,
        description=(
            "this hospital's copies of the federation's task files, from this file's folder"
        ),
    )
    studies_at_once: int = Field(
        2,
        ge=1,
        le=64,
        description=(
            "studies of a network that may compute side by side, each in a process of its own; "
            "read when the client starts"
        ),
    )

    @model_validator(mode="after")
    def _files_keep_their_names(self) -> Self:
        for name, path in self.task_files.items():
            if Path(path).name != name.partition(":")[0]:
                raise ValueError(
                    f"task_files: '{name}' must be a file of that name, and '{path:.100}' isn't"
                )
        return self

    def over_training(self, table: TrainingTable) -> TrainingTable:
        """The federation's table with what this machine computes with."""
        own = {
            "device": self.device,
            "processes": self.processes or table.processes,
            "precision": self.precision or table.precision,
        }
        return table.model_copy(update=own)
