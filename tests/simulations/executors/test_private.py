"""Private rounds of a cohort: what single messages give, in every form, with every ledger."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulations.executors.test_contract import SIZES, close, figures, same
from wardround.client.privacy.book import Book
from wardround.common.run.directory import RunDirectory
from wardround.simulations.executors import at_once, make_executor
from wardround.simulations.executors.workers.processes import processes as make_processes
from wardround.simulations.executors.workers.spread import Spread

FORMS = {
    "one noise": "unit = 'hospital'\nnoise = 'central'\nclipping_norm = 0.05\n",
    "one noise, adaptive": "unit = 'hospital'\nnoise = 'central'\nclipping = 'adaptive'\n",
    "own noise": "unit = 'hospital'\nclipping_norm = 0.2\n",
    "own noise, adaptive": "unit = 'hospital'\nclipping_norm = 0.2\nclipping = 'adaptive'\n",
    "steps": "unit = 'example'\nclipping_norm = 0.7\n",
    "steps by layer": "unit = 'example'\nclipping = 'per_layer'\n",
    "one step": "unit = 'example'\nnoise = 'central'\n",
}


def text(form: str, **more: str) -> str:
    """A configuration. ``more``: further lines, by table."""
    lines = {
        "privacy": f"noise_multiplier = 0.6\n{FORMS[form]}",
        "training": "batch_size = 4\nlr = 0.3\n" + "local_steps = 1\n" * (form == "one step"),
        "federation": "rounds = 2\nseed = 5\n",
        "data": "test_fraction = 0.3\n",
    }
    for table, given in more.items():
        lines[table] = lines.get(table, "") + given
    return "".join(f"[{table}]\n{given}" for table, given in lines.items())


@pytest.fixture
def federation(settings, federate, net, tmp_path) -> Callable[..., Any]:
    """A run in a folder of its own, with ledgers of its own: names of runs, which are in requests
    and claims, are of one length."""

    def run(config: Any, shards: Any, model: str = "dense", book: bool = True, **more: Any) -> Any:
        folder = tmp_path / f"{len(list(tmp_path.iterdir())):03}"
        for path in tmp_path.glob("*.sqlite*"):
            path.unlink()
        directory = RunDirectory.create(folder, "test", config.to_toml())
        place = folder / "book" if book else None
        return federate(config, shards, net(model), directory=directory, book=place, **more), place

    return run


def told(rows: list[dict[str, Any]]) -> list[Any]:
    """What a round tells besides its model; of claims all but a run's own name."""
    keys = ("privacy", "refused", "accepted", "bytes_down", "clipping_norm")
    return [[row.get(key) for key in keys] for row in rows]


@pytest.fixture
def spread() -> Iterator[Spread]:
    executor = make_processes(2)
    yield executor
    executor.close()


@pytest.mark.parametrize(
    ("form", "model"),
    [(form, "dense") for form in FORMS]
    + [("one noise", "wide"), ("one noise", "conv"), ("steps", "wide"), ("steps", "conv")],
)
def test_a_private_cohort_is_what_single_messages_give(
    settings, federation, make_hospitals, spread, form, model
) -> None:
    config = settings(text(form))
    shards = make_hospitals(SIZES, 240 if model == "wide" else 6)
    single, own = federation(config, shards, model)
    for executor in (make_executor("sequential"), make_executor("cohort"), spread):
        run, book = federation(config, shards, model, executor=executor)
        assert not executor.notes()
        if executor.name == "sequential":
            same(single.outcome.model, run.outcome.model)
        close(single.outcome.model, run.outcome.model)
        assert paid(book, shards) == paid(own, shards)
        assert figures(single.recorder.rows) == figures(run.recorder.rows)
        losses = [row["train_loss"] for row in [*single.recorder.rows, *run.recorder.rows]]
        assert losses and all(map(math.isnan, losses))  # they aren't told
        for row, other in zip(told(single.recorder.rows), told(run.recorder.rows), strict=True):
            assert row[:-1] == other[:-1]
            assert row[-1] == pytest.approx(other[-1], rel=1e-6)


def paid(book: Path, names: Iterable[str]) -> list[list[Any]]:
    """What each hospital has paid for, but for the names of request and run."""
    pages = [Book.open(book).page(name) for name in names]
    return [
        [(one.releases, one.mechanism, one.purpose, one.round) for one in page.entries()]
        for page in pages
    ]


@pytest.mark.parametrize("name", ["sequential", "cohort"])
@pytest.mark.parametrize("book", [True, False])
def test_who_has_no_budget_left_refuses_and_is_asked_no_more(
    settings, federation, make_hospitals, name, book
) -> None:
    """Four of six are asked in each round; a limit allows each two of them."""
    few = "clients_per_round = 4\nmin_clients = 1\nround_attempts = 3\n"
    shards = make_hospitals(SIZES)
    free, _ = federation(settings(text("one noise", federation=few)), shards)
    most = max(claim["epsilon"] for claim in free.recorder.rows[1]["privacy"].values())
    limit = f"epsilon_limit = {1.01 * most}\n"
    config = text("one noise", federation=few, privacy=limit).replace("rounds = 2", "rounds = 6")
    single, _ = federation(settings(config), shards, book=book)
    group, _ = federation(settings(config), shards, book=book, executor=make_executor(name))
    rows = single.recorder.rows
    assert told(rows) == told(group.recorder.rows)
    assert figures(rows) == figures(group.recorder.rows)
    times = Counter(name for row in rows for name in row["accepted"])
    assert len(rows) < 6 and max(times.values()) == 2


def test_who_is_asked_the_same_again_has_paid_for_it(settings, federation, make_hospitals) -> None:
    """The first attempt at a round fails, as one client does: five have paid, and pay no more."""
    shards = make_hospitals(SIZES)
    most = f"min_clients = {len(shards)}\nround_attempts = 2\nretry_wait_s = 0.0\n"
    config, runs = settings(text("one noise", federation=most)), []
    for executor in (None, make_executor("cohort")):
        failed: list[str] = []

        def once(message: Any, client: str) -> str | None:
            if message.metadata.message_type != "train" or client != "h03" or failed:
                return None
            failed.append(client)
            return "it was switched off"

        run, book = federation(config, shards, executor=executor, intercept=once)
        assert failed and len(run.recorder.rows) == 2
        runs.append(paid(book, shards))
    assert runs[0] == runs[1]
    assert {len([one for one in of if one[2] == "training"]) for of in runs[1]} == {2}


@pytest.mark.parametrize("damage", ["missing", "emptied"])
def test_a_ledger_that_can_not_vouch_stops_its_own_hospital(
    settings, federation, make_hospitals, tmp_path, damage
) -> None:
    def damaged(message: Any, client: str) -> None:
        path = tmp_path / "h03.sqlite"
        if message.metadata.message_type == "train" and path.exists():
            path.unlink()
            if damage == "emptied":
                path.touch()

    config, shards, runs = settings(text("one noise")), make_hospitals(SIZES), []
    for groups in (False, True):
        more = {"executor": make_executor("cohort"), "groups": groups, "intercept": damaged}
        found, _ = federation(config, shards, book=False, **more)
        runs.append(found.recorder.rows)
    one, other = map(told, runs)
    assert one == other
    assert [x["hospital"] for x in runs[0][0]["refused"]] == ["h03"]
    assert "h03" not in runs[0][1]["privacy"]


@pytest.mark.parametrize("form", ["steps", "steps by layer", "one noise"])
@pytest.mark.parametrize("sizes", [SIZES, [1, 1, 33]])
def test_many_clients_are_trained_at_once(
    settings, federation, make_hospitals, monkeypatch, form, sizes
) -> None:
    """The reference does nothing: no chunk has fallen back to it."""
    config, shards = settings(text(form, training="momentum = 0.5\n")), make_hospitals(sizes)
    single, _ = federation(config, shards)

    def never(group: Any, node_ids: list[int], sums: Any) -> None:
        raise AssertionError(f"{node_ids} are trained one after the other")

    monkeypatch.setattr(at_once, "train_each", never)
    run, _ = federation(config, shards, executor=make_executor("cohort"))
    close(single.outcome.model, run.outcome.model)


def test_a_loss_that_mixes_examples_is_left_to_the_reference(
    settings, federation, make_hospitals, net, monkeypatch
) -> None:
    """A loss that is centred over its batch: what book-keeping makes of it bounds nobody."""
    loss = net.loss
    monkeypatch.setattr(net, "loss", lambda self, o, t: loss(self, o - o.mean(0), t))
    executor, config = make_executor("cohort"), settings(text("steps"))
    shards = make_hospitals([9, 12, 30])
    single, _ = federation(config, shards)
    run, _ = federation(config, shards, executor=executor)
    same(single.outcome.model, run.outcome.model)
    assert executor.notes() == [
        "private steps one client at a time: the model or its loss mixes the examples of a batch"
    ]
