"""What 'auto' picks, and that a resumed run goes on with it."""

from __future__ import annotations

from wardround.simulations.executors import auto, make_executor
from wardround.simulations.executors.auto import Auto


def test_it_picks_the_fastest_of_what_it_tried_and_says_so(
    settings, federate, net, make_hospitals, monkeypatch
) -> None:
    asked: list[int] = []
    times = {"sequential": 3e-3, "cohort": 1e-3, "processes": 2e-3, "processes-sequential": 4e-3}

    def time(executor, group, nodes):
        asked.append(len(nodes))
        return times[executor.name]

    monkeypatch.setattr(Auto, "_time", staticmethod(time))
    monkeypatch.setattr(auto, "cores", lambda: 2)
    said: list[str] = []
    executor = Auto(lambda name, why: said.append(f"{name}: {why}"))
    federate(settings(""), make_hospitals([4] * 20), net(), executor=executor)
    assert executor.picked.name == "cohort"
    assert said == [
        "cohort: a client takes cohort 1 ms, processes 2 ms, sequential 3 ms, "
        "processes-sequential 4 ms"
    ]
    assert asked == [2, 20, 20, 20, 20]


def test_trying_changes_nothing(settings, federate, net, make_hospitals) -> None:
    """The same result as the executor that it picks."""
    shards, executor = make_hospitals([4] * 20), Auto()
    try:
        run = federate(settings(""), shards, net(), executor=executor)
        again = federate(settings(""), shards, net(), executor=make_executor(executor.picked.name))
    finally:
        executor.close()
    for name, value in run.outcome.model.items():
        assert (value == again.outcome.model[name]).all()


def test_few_clients_and_private_ones_are_not_tried(
    settings, federate, net, make_hospitals, monkeypatch
) -> None:
    def never(*arguments):
        raise AssertionError("tried")

    monkeypatch.setattr(Auto, "_time", staticmethod(never))
    few, secure = Auto(), Auto()
    federate(settings(""), make_hospitals([4] * 15), net(), executor=few)
    assert few.picked.name == "sequential"
    text = "[secure_aggregation]\nenabled = true\n"
    federate(settings(text), make_hospitals([4] * 16), net(), executor=secure)
    assert secure.picked.name == "cohort"
