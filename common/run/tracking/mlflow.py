"""MLflow, by its client: one run of an experiment, found again by a tag with our run's name."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from wardround.common.run.tracking.names import ROUND

_TAG = "wardround.run"
_BATCH = 1000
# without these a server that is away is tried for ten minutes
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class MLflow:
    """A run there; made, if there is none. ``project``: the experiment's name."""

    def __init__(self, uri: str, project: str, run: str) -> None:
        for key, value in _PATIENCE.items():
            os.environ.setdefault(key, value)
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        experiment = self._client.get_experiment_by_name(project)
        number = experiment.experiment_id if experiment else None
        number = number or self._client.create_experiment(project)
        name = run.replace("'", "")
        found = self._client.search_runs([number], f"tags.`{_TAG}` = '{name}'", max_results=1)
        one = found[0] if found else None
        one = one or self._client.create_run(number, tags={_TAG: name}, run_name=run)
        self._id = one.info.run_id

    def tracked(self) -> int:
        """The last round that stands there."""
        history = self._client.get_metric_history(self._id, ROUND)
        return max((metric.step for metric in history), default=0)

    def add(self, server_round: int, metrics: Mapping[str, float]) -> None:
        """One request: a round's metrics come together, ``round`` with the last of them."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rest = [(name, value) for name, value in metrics.items() if name != ROUND]
        made = [Metric(n, v, now, server_round) for n, v in [*rest, (ROUND, float(server_round))]]
        for begin in range(0, len(made), _BATCH):
            self._client.log_batch(self._id, metrics=made[begin : begin + _BATCH])

    def finish(self, about: Mapping[str, str]) -> None:
        """As tags; the run's state by ours."""
        for name, value in about.items():
            self._client.set_tag(self._id, f"wardround.{name}", value)
        complete = about.get("status") == "complete"
        self._client.set_terminated(self._id, "FINISHED" if complete else "KILLED")

    def close(self) -> None:
        """Nothing is open."""
