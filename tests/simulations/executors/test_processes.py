"""Worker processes that die, the size of tasks, and what is left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from wardround.simulations.executors.workers import spread as module
from wardround.simulations.executors.workers.processes import ProcessPool, processes


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold"])
def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(
    settings, federate, net, make_hospitals, tmp_path: Path, strategy
) -> None:
    marker, parent = tmp_path / "died", os.getpid()

    class Deadly(net):  # type: ignore[misc]
        def loss(self, outputs, targets):
            if os.getpid() != parent and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().loss(outputs, targets)

    config = settings(f"[strategy]\nname = '{strategy}'\n[federation]\nrounds = 2\n")
    shards = make_hospitals([5, 9, 7, 3])
    undisturbed, disturbed = processes(2), processes(2)
    try:
        expected = federate(config, shards, net(), executor=undisturbed)
        found = federate(config, shards, Deadly(), executor=disturbed)
        assert disturbed.notes() == ["a worker process ended with signal 9 and was replaced"]
    finally:
        undisturbed.close()
        disturbed.close()
    for name, value in expected.outcome.model.items():
        assert np.array_equal(value, found.outcome.model[name])
    assert not found.recorder.refusals


def test_a_task_that_kills_every_worker_is_given_up_with_the_reason(
    settings, federate, net, make_hospitals, monkeypatch
) -> None:
    parent = os.getpid()

    class Deadly(net):  # type: ignore[misc]
        def loss(self, outputs, targets):
            if os.getpid() != parent and float(outputs.shape[-2]) == 1:  # the client of one example
                os._exit(7)
            return super().loss(outputs, targets)

    monkeypatch.setattr(module, "MOST_CLIENTS_A_TASK", 1)
    executor = processes(2)
    try:
        run = federate(
            settings("[training]\nbatch_size = 10\n"),
            make_hospitals([5, 1, 7]),
            Deadly("linear"),
            executor=executor,
        )
    finally:
        executor.close()
    (refused,) = run.recorder.rows[0]["refused"]
    assert refused["hospital"] == "h01"
    assert refused["reason"] == "failed: its worker process ended 3 times, last with exit code 7"
    assert run.recorder.rows[0]["accepted"] == ["h00", "h02"]


def test_the_number_of_workers_changes_no_bit(
    settings, federate, net, make_hospitals, monkeypatch
) -> None:
    monkeypatch.setattr(module, "MOST_CLIENTS_A_TASK", 3)
    models = []
    for workers in (1, 2, 3):
        executor = processes(workers)
        try:
            shards = make_hospitals([5, 1, 7, 2, 9, 9, 4, 3])
            run = federate(settings("[federation]\nrounds = 2\n"), shards, net(), executor=executor)
        finally:
            executor.close()
        models.append(run.outcome.model)
    for name, value in models[0].items():
        assert all(np.array_equal(value, other[name]) for other in models[1:])


def test_nothing_is_left_in_shared_memory(settings, federate, net, make_hospitals) -> None:
    executor = processes(2)
    federate(settings(""), make_hospitals([5, 6]), net(), executor=executor)
    pool = executor._tasks.pool
    assert isinstance(pool, ProcessPool) and pool._folder is not None
    folder = pool._folder.path
    assert [one.name for one in folder.iterdir()] == ["lock"], "its own, that says it lives"
    executor.close()
    assert not folder.exists() and not pool._workers
