"""``[tracking]``: where a run's figures are brought while it goes on. It computes nothing."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from wardround.common.settings.base import PathText, Table

TrackerName = Literal["mlflow", "tensorboard", "wandb"]


class TrackingTable(Table):
    """``[tracking]``: trackers that are told of each round. Whoever runs the rounds has it: it is
    in no plan, and no hospital is told of it."""

    to: list[TrackerName] = Field(
        [],
        max_length=3,
        description="which are told of each round: what the report shows over all hospitals, "
        "nothing of one. W&B's files stay here; nothing is sent",
    )
    folder: PathText = Field(
        "", description="of TensorBoard's and W&B's files; empty: `tracking` beside the runs"
    )
    mlflow: str = Field(
        "",
        max_length=2000,
        description="the address of MLflow's server, such as `http://127.0.0.1:5000`; who signs "
        "in there stands in `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`",
    )

    @model_validator(mode="after")
    def _has_its_places(self) -> TrackingTable:
        if len(set(self.to)) < len(self.to):
            raise ValueError("to: a tracker stands there twice")
        if ("mlflow" in self.to) != bool(self.mlflow):
            raise ValueError("mlflow: the address goes with 'mlflow' in `to`, and that with it")
        if self.folder and not {"tensorboard", "wandb"} & set(self.to):
            raise ValueError("folder: works only with 'tensorboard' or 'wandb' in `to`")
        try:
            name = urlsplit(self.mlflow).username
        except ValueError:
            raise ValueError("mlflow: is no address") from None
        if name is not None:  # it would stand in the run directory
            raise ValueError("mlflow: no names and passwords here; see MLFLOW_TRACKING_PASSWORD")
        return self
