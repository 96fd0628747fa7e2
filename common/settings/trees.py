"""``[procedure]`` with ``name = "trees"``: gradient-boosted trees, or a random forest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wardround.common.settings.base import Table
from wardround.common.settings.declared import BY_NAME, Name
from wardround.common.settings.key_errors import WrongKey

MOST_ROUNDS = 5000
MOST_CELL = 1000


class TreesOptions(Table):
    """See the fields; names and defaults are xgboost's where it has them."""

    rounds: int = Field(100, ge=1, le=MOST_ROUNDS, description="rounds of boosting")
    max_depth: int = Field(6, ge=1, le=12, description="levels of a tree; one sum of each")
    learning_rate: float = Field(0.3, gt=0, le=1, description="what a tree counts")
    min_child_weight: float = Field(
        1.0, ge=0, le=1e6, description="smallest sum of hessians on either side of a split"
    )
    smallest_leaf: int = Field(
        5,
        ge=1,
        le=MOST_CELL,
        description=(
            "fewest rows of a leaf, over all hospitals, and of a bin. But for survival no rows are "
            "counted for it: a row's hessian has a largest value (1/4 of two classes, 1/2 of "
            "several, 1 of a number), and `min_child_weight` is raised to as many times that. "
            "A hospital may ask for more (`smallest_cell` of site.toml)"
        ),
    )
    gamma: float = Field(0.0, ge=0, le=1e9, description="smallest gain of a split")
    reg_lambda: float = Field(1.0, ge=0, le=1e9, description="L2 of a leaf's weight")
    reg_alpha: float = Field(0.0, ge=0, le=1e9, description="L1 of a leaf's weight")
    max_delta_step: float = Field(
        0.0, ge=0, le=1e6, description="largest weight of a leaf; 0: no bound"
    )
    max_bins: int = Field(256, ge=2, le=1024, description="bins of a column of numbers")
    max_cat_to_onehot: int = Field(
        4, ge=1, le=1024, description="with fewer categories, one is told from all others"
    )
    max_cat_threshold: int = Field(
        64, ge=2, le=1024, description="most categories on one side of a split"
    )
    time_cells: int = Field(
        256, ge=2, le=1024, description="survival: cells of time that risk sets are summed on"
    )
    monotone: Annotated[dict[Name, Literal[-1, 1]], BY_NAME] = Field(
        {},
        max_length=10_000,
        description="columns of numbers with which predictions may only rise (1) or fall (-1)",
    )
    forest: int = Field(
        1, ge=1, le=1000, description="trees of a round (and class), grown side by side"
    )
    subsample: float = Field(
        1.0, gt=0, le=1, description="share of rows that a tree sees; each hospital draws its own"
    )
    colsample_bytree: float = Field(1.0, gt=0, le=1, description="share of columns of a tree")
    colsample_bylevel: float = Field(1.0, gt=0, le=1, description="share of these of a level")
    early_stopping: int = Field(
        0,
        ge=0,
        le=MOST_ROUNDS,
        description=(
            "stop after so many rounds without a smaller loss on all hospitals' validation rows, "
            "and keep the best; 0: never"
        ),
    )
    bits: Literal[32, 64] = Field(
        64,
        description=(
            "of a summed gradient under masks. 64 gives the trees that pooled rows give; 32 halves "
            "what is sent, and rounds gradients"
        ),
    )

    @model_validator(mode="after")
    def _go_together(self) -> TreesOptions:
        if self.early_stopping >= self.rounds:
            raise WrongKey("early_stopping", "fewer than the rounds there are, or 0")
        return self

    @property
    def smallest_cell(self) -> int:
        """What a hospital's policy holds ``smallest_leaf`` against."""
        return self.smallest_leaf
