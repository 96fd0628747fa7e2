"""``[training]``: what every hospital does between two aggregations."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wardround.common.settings.base import MANY, Table

Precision = Literal["float32", "bf16", "fp16"]
OWN_TRAINING = (
    "device",
    "processes",
    "precision",
    "micro_batch_size",
    "checkpoint_activations",
    "compile",
)
"""Keys of ``[training]`` that may differ from hospital to hospital: they say how its machine
computes the same steps."""


class TrainingTable(Table):
    """``[training]``: what every hospital does between two aggregations."""

    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="fresh in every round")
    lr: float = Field(0.05, gt=0, le=1e4, description="learning rate of the optimiser's steps")
    schedule: Literal["exponential", "constant", "step", "linear", "cosine"] = Field(
        "exponential",
        description=(
            "of `lr` over the rounds; `linear` and `cosine` go down to the last round: "
            "[training](training.md#learning-rate)"
        ),
    )
    lr_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="multiplies `lr` each round (`exponential`) or every `step_rounds` (`step`)",
    )
    step_rounds: int = Field(
        10, ge=1, le=MANY, description="rounds between two steps of the schedule"
    )
    warmup_rounds: int = Field(
        0, ge=0, le=MANY, description="rounds over which `lr` grows before the schedule begins"
    )
    momentum: float = Field(0.0, ge=0, lt=1, description="of the optimiser's steps")
    weight_decay: float = Field(0.0, ge=0, le=1e4, description="pulls every weight towards 0")
    batch_size: int = Field(
        32,
        ge=1,
        lt=2**31,
        description=(
            "rows of a step; with `[privacy]` on, the expected number of units that a hospital "
            "draws for one"
        ),
    )
    local_epochs: int = Field(1, ge=1, le=10_000, description="passes over the rows per round")
    local_steps: int | None = Field(
        None,
        ge=1,
        le=MANY,
        description="instead of `local_epochs`: that many batches, whatever the number of rows",
    )
    max_grad_norm: float | None = Field(
        None, gt=0, le=1e9, description="clips the gradient of each step"
    )
    distillation: float = Field(
        0.0,
        ge=0,
        le=1e4,
        description=(
            "weight of a term that keeps local scores near the received model's: "
            "[training](training.md#distillation)"
        ),
    )
    distillation_temperature: float = Field(
        2.0, ge=0.01, le=1e4, description="scores are divided by it before they are compared"
    )
    device: str = Field("cpu", max_length=64, description="a torch device")
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description=(
            'that train a hospital\'s model together, with `device = "cuda"` on a GPU each: '
            "[training](training.md#several-gpus)"
        ),
    )
    precision: Precision = Field(
        "float32",
        description="of forward pass and loss; `fp16` on a GPU: [training](training.md#precision)",
    )
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        lt=2**31,
        description=(
            "examples of a batch that go through the model at once; left out: all: "
            "[training](training.md#memory)"
        ),
    )
    checkpoint_activations: bool = Field(
        False,
        description=(
            "compute activations again in the backward pass rather than keep them: "
            "[training](training.md#memory)"
        ),
    )
    compile: bool = Field(
        False,
        description=(
            "have `torch.compile` compile the forward pass; in a cohort, a step of the *vmap* form"
        ),
    )

    @property
    def has_horizon(self) -> bool:
        """Whether the learning rate depends on how many rounds the run has."""
        return self.schedule in ("linear", "cosine")
