"""Names and shapes of sums are worked out on no row, and are those that rows give."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message
from torch import Tensor

from tests.federate import Federate, Line, examples
from tests.unlike import MAKERS, Consortium
from wardround.client.data.hospital import Hospital
from wardround.client.data.shard import OwnShard
from wardround.client.requests.layouts import metrics_layout, statistics_layout
from wardround.client.requests.received import ModelCache
from wardround.client.training.evaluation import evaluate_model
from wardround.common.config.task import make_task
from wardround.common.errors import RoundFailed
from wardround.common.figures.sums import Sums, add_sums
from wardround.common.flower.arrays import digest_arrays, encode_arrays
from wardround.common.flower.hosting import own_copy
from wardround.common.protocol import names as m

pytestmark = pytest.mark.usefixtures("exact_parts")


def hospitals(made: Consortium, runs: Path) -> list[Hospital]:
    config = made.config("data.validation_fraction=0.2", runs=runs)
    task = make_task(config)
    return [
        Hospital(OwnShard(name, task, config, lambda path=path: task.load(path)))
        for name, path in task.sites(made.folder / "hospitals").items()
    ]


def shapes(sums: Sums) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in sums.items()}


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_no_rows_give_the_layout_of_all_rows(
    kind: str, unlike: Callable[[str], Consortium], tmp_path: Path
) -> None:
    every, models = hospitals(unlike(kind), tmp_path), ModelCache()
    task, training = every[0].task, every[0].config.training
    able = [one for one in every if "train" in one.parts()]
    totals: Sums = {}
    for phase in range(task.phases):
        found = [one.statistics(phase, totals) for one in able]
        if phase > 0:
            for one, sums in zip(able, found, strict=True):
                assert shapes(statistics_layout(one, phase, totals)) == shapes(sums)
        totals = totals | add_sums(found)
    totals = task.condense(totals)
    for one in every:
        layout = metrics_layout(one, totals, digest_arrays(totals), models)
        model, _ = models.get(one, totals, digest_arrays(totals))
        whole = one.examples(totals, digest_arrays(totals))
        assert set(layout) == set(whole) & set(m.HELD_OUT)
        for split, part in layout.items():
            known = {k: v for k, v in part.items() if not k.startswith("within:")}
            assert shapes(known) == shapes(evaluate_model(model, whole[split], task, training))
            assert not any(np.any(value) for value in part.values())


class Refusing(Line):
    """A task that needs rows for its sums."""

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        return {f"{targets.max().item():g}": np.ones(1)} | super().metrics(outputs, targets)


MASKED = "[data]\ntest_fraction = 0.5\n[secure_aggregation]\nenabled = true\nmin_cohort = 3\n"


def test_a_task_that_needs_rows_is_told_in_fixed_words(
    federate: Federate, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shards = {name: examples([1.0] * 4, [4321.0] * 4) for name in "abc"}
    with caplog.at_level(logging.WARNING):
        run = federate(settings(MASKED), shards, Refusing())
    (row,) = run.directory.rounds()
    assert row["overall"] == {} and "4321" not in str(row)
    assert "prepare() and metrics() must work on none" in str(row["refused"])
    assert "can't be told" in caplog.text


def test_no_layout_is_of_a_model_of_the_servers(federate: Federate, settings: Any) -> None:
    def lying(app: Any) -> Any:
        def answer(message: Message, context: Any) -> Message:
            if message.metadata.message_type == m.LAYOUT:
                weights: ArrayRecord = encode_arrays({"weight": np.full((1, 1), 1e12, np.float32)})
                message.content[m.ARRAYS] = weights
            return app(own_copy(message), context)

        return answer

    shards = {name: examples([1.0] * 4, [1.0] * 4) for name in "abc"}
    run = federate(settings(MASKED), shards, Line(), wrap=lying)
    assert "'arrays'" in str(run.directory.rounds()[0]["refused"])


def test_a_later_phase_asks_for_no_sum_that_the_hospital_hasnt(
    federate: Federate, settings: Any
) -> None:
    """In clear, and before its rows are touched: its zeros would be no company."""

    class Odd(Line):
        phases = 2

        def statistics(self, train: Any, phase: int, totals: Sums) -> Sums:
            has = len(train) == 0 or float(train.targets[0]) != 7.0
            return {"rows": np.ones(1)} | ({"more": np.ones(1)} if phase == 1 and has else {})

    shards = {name: examples([1.0] * 4, [1.0] * 4) for name in "abc"}
    shards["d"] = examples([1.0] * 4, [7.0] * 4)
    text = "[federation]\nretry_wait_s = 0\n" + MASKED
    with pytest.raises(RoundFailed, match="1 of 4 hospitals had nothing to add to step 2"):
        federate(settings(text), shards, Odd())
