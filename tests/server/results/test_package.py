"""The package of a run: made once, whole after any crash, with nothing of one hospital in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.federate import Federate, examples
from wardround.common.config.load import Config, load_config
from wardround.common.errors import ResultsRefused, RunDirectoryError
from wardround.common.figures.sums import binary_figures, binary_sums
from wardround.common.figures.within import of_enough
from wardround.common.protocol.results import StudyEnded, StudyFile
from wardround.common.results.package import Package, verify_folder
from wardround.common.results.staging import Expected, Staging
from wardround.common.run.directory import RunDirectory
from wardround.common.run.sums import KeptSums
from wardround.common.trust.identity import Identity
from wardround.server.results import package as module
from wardround.server.results.deliver import deliveries, ended
from wardround.server.results.package import make_package, package_of
from wardround.server.results.shared import (
    TOO_FEW,
    shared_answers,
    shared_curves,
    shared_round,
    shared_rounds,
    shared_summary,
)

SERVER = Identity.from_bytes(bytes(range(32)))
NAMES = ("canary-north", "canary-south", "canary-east")


@pytest.fixture(scope="module", autouse=True)
def nothing_reaches_the_disk() -> Iterator[None]:
    """No power is cut here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def run_of(federate: Federate, settings: Callable[[str], Config], tmp_path: Path) -> Any:
    """A complete run of unlike hospitals, in plain, with what a deployed one leaves."""

    def make(names: tuple[str, ...] = NAMES) -> RunDirectory:
        rows = {"canary-north": 12, "canary-south": 9, "canary-east": 31}
        shards = {  # no two rows alike: equal ones are held out together
            name: examples(
                [1 + i / 100 for i in range(rows[name])], [float(rows[name])] * rows[name]
            )
            for name in names
        }
        text = "[federation]\nrounds = 2\nmin_clients = 2\n[data]\ntest_fraction = 0.4\n"
        run = federate(settings(text), shards).directory
        run.keep_plan(b'{"stage":2}')
        warned = [dict(one, warnings=["canary-warning"]) for one in run.summary()["hospitals"]]
        run.update(
            hospitals=warned,
            absent=[{"hospital": "canary-west", "reason": "canary-absence"}],
            away={"canary-west": "canary-away"},
            unfit={"canary-west": "canary-unfit"},
            titles={"canary-north": "Canary House"},
            initial={"file": "/canary/first.safetensors", "taken": 1},
            ended_early="canary-north stopped taking part",
            some_later_field="canary-later",
        )
        for row in run.rounds():
            refused = [{"hospital": "canary-east", "step": "train", "reason": "canary-reason"}]
            claims = {"canary-north": {"epsilon": 1.0}}
            again = {"round": 1, "overall": {"test": {"loss": 7.0}}, "over": {"test": list(names)}}
            more = {"refused": refused, "privacy": claims, "again": again, "later": "canary-later"}
            run.replace_round(row | more)
        (run.model / "hospitals").mkdir()
        (run.model / "hospitals" / "canary-north.safetensors").write_bytes(b"personal")
        return run

    return make


def test_a_package_is_the_model_the_plan_and_sums_alone(run_of: Any) -> None:
    run = run_of()
    folder = make_package(run, SERVER, network="net", signed_study=b"what was asked")
    package = verify_folder(folder, SERVER.public)
    assert (package.run, package.round, package.study) == (run.path.name, 2, "")
    assert [one.name for one in package.files] == [
        *("config.toml", "metrics.jsonl", "model/config.toml", "model/files.json"),
        *("model/model.safetensors", "model/preparation.safetensors", "model/schema.json"),
        *("plan.json", "report.html", "run.json", "study.signed"),
    ]
    for name in ("model/model.safetensors", "model/preparation.safetensors", "plan.json"):
        assert (folder / name).read_bytes() == (run.path / name).read_bytes()
    texts = {one.name: (folder / one.name).read_text("utf-8", "replace") for one in package.files}
    for name, text in texts.items():
        assert "canary" not in text.casefold(), name
        assert str(run.path.parent) not in text, name
    report = texts["report.html"]
    assert "3/3" in report and "hospitals<b>3</b>" in report and "all rows together" in report
    assert load_config(folder / "config.toml").federation.rounds == 2
    rounds = [json.loads(line) for line in texts["metrics.jsonl"].splitlines()]
    assert [row["overall"] for row in rounds] == [row["overall"] for row in run.rounds()]
    assert rounds[0]["overall"]["test"]["loss"] > 0 and rounds[0]["evaluated"] == {"test": 3}
    summary = json.loads(texts["run.json"])
    sizes = run.summary()["hospitals"]
    assert (
        summary["rows"]["train"] == sum(one["train"] for one in sizes) and summary["members"] == 3
    )


def test_of_two_hospitals_in_plain_no_figure_is_shown(run_of: Any) -> None:
    """Each would have the other's: the sum less its own."""
    run = run_of(NAMES[:2])
    folder = make_package(run, SERVER, network="net")
    rounds = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(row["overall"], row["train_loss"]) for row in rounds] == [({}, None)] * 2
    assert "rows" not in json.loads((folder / "run.json").read_text())
    report = (folder / "report.html").read_text()
    assert TOO_FEW.replace("'", "&#39;") in report and "was measured" not in report


def test_the_report_of_what_trains_nothing_is_what_was_published(run_of: Any) -> None:
    run = run_of()
    published = {"vertical.json": "{}", "vertical.html": "<p>a table</p>"}
    for name, text in published.items():
        (run.path / name).write_text(text)
    run.update(procedure="vertical", published=sorted(published), answered=list(NAMES))
    folder = make_package(run, SERVER, network="net")
    assert (folder / "report.html").read_text() == published["vertical.html"]
    run.update(published=["vertical.json"])
    shutil.rmtree(folder)
    folder = make_package(run, SERVER, network="net")
    assert "<h2>vertical.json</h2>" in (folder / "report.html").read_text()


ROW = {
    "round": 3,
    "hidden": True,
    "cohort": ["a", "b", "c", "d"],
    "accepted": ["a", "b"],
    "train_loss": 0.5,
    "overall": {"test": {"auc": 0.8}, "validation": {"auc": 0.7}},
    "over": {"test": ["a", "b"], "validation": ["a"]},
    "within": {"test": {"auc": {"mean": 0.8, "bound": 0.1, "hospitals": 1}}},
}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """The line of a run of this one round."""
    return shared_rounds([row], 3)[0]


def test_masked_sums_are_shown_as_they_were_opened_and_never_those_of_one() -> None:
    line = shown(ROW)
    assert (line["asked"], line["contributed"], line["train_loss"]) == (4, 2, 0.5)
    assert line["overall"] == {"test": {"auc": 0.8}} and line["within"] == {"test": {}}
    both = ROW | {"within": {"test": {"auc": {"mean": 0.8, "bound": 0.1, "hospitals": 2}}}}
    assert shown(both)["within"]["test"]["auc"]["mean"] == 0.8
    # of five that evaluated, two where it is defined don't know each other: each is told nothing
    five = both | {"over": {"test": list("abcde")}}
    assert shown(five)["within"] == {"test": {}}


def test_curves_are_over_the_hospitals_of_the_figures_and_tell_of_no_few() -> None:
    rng = np.random.default_rng(1)
    truth = np.arange(400) < 20
    sums = binary_sums(np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1), truth)
    row = ROW | {"over": {"test": ["a", "b", "c"]}, "overall": {"test": binary_figures(sums)}}
    kept = KeptSums(3, {"test": sums, "validation": sums}, {"test": ["a", "b", "c"]}, True)

    def made(**changes: Any) -> Any:
        one = row | changes
        lines = [shared_round(one, {"test": one["over"]["test"]})]
        return shared_curves(kept, [one], lines)

    (split,) = made()["splits"]
    curves = made()["splits"][split]
    groups = curves["groups"][""]
    assert split == "test" and sum(groups["positives"]) == 20 and sum(groups["negatives"]) == 380
    # below a score of 1/2 there are 4 of the positives, as the shown sensitivity says: one step
    below = [low < 0.5 for low in groups["low"]]
    assert below.count(True) == 1 and len(groups["low"]) >= 3
    assert min(groups["positives"][1:] + groups["negatives"][1:]) >= 5
    low, high = curves["intervals"]["auc"]
    assert low < binary_figures(sums)["auc"] < high and round(low, 4) == low
    assert made(over={"test": ["a", "b", "d"]}) is None, "other hospitals evaluated it last"
    assert made(over={"test": ["a"]}) is None and made(overall={}) is None
    assert shared_curves(None, [row], []) is None
    plain = row | {"over": {"test": ["a", "b"]}, "hidden": False}
    two = KeptSums(3, {"test": sums}, {"test": ["a", "b"]})
    assert shared_curves(two, [plain], [shared_round(plain, {"test": ["a", "b"]})]) is None


def test_a_lost_rounds_model_is_the_one_before_and_is_not_shown_over_others_again() -> None:
    line = shown(ROW | {"lost": "a and b gave shares"})
    assert line["overall"] == {} and line["lost"] == "its sum could not be opened"


def test_figures_are_shown_over_one_set_of_hospitals_only() -> None:
    """Counts of two sets that differ by one hospital are that one's, whatever the model."""
    counts = {"test": {"auc": 0.8, "examples": 30.0}}
    rows = [
        ROW | {"round": number, "overall": counts, "over": {"test": over}}
        for number, over in ((1, ["a", "b"]), (2, ["a", "b", "c"]), (3, ["c", "a", "b"]))
    ]
    assert [one["evaluated"] for one in shared_rounds(rows, 3)] == [{}, {"test": 3}, {"test": 3}]
    assert [one["evaluated"] for one in shared_rounds(rows, 1)] == [{"test": 2}, {}, {}]
    # the chosen one wasn't evaluated: as the last one that was
    assert [one["overall"] for one in shared_rounds(rows, 7)] == [{}, counts, counts]


def test_sizes_are_shown_as_a_sum_of_three_that_have_such_rows() -> None:
    sizes = [{"hospital": name, "train": 3, "test": test} for name, test in (("a", 1), ("b", 2))]
    found = shared_summary(
        {"hospitals": [*sizes, {"hospital": "c", "train": 4, "test": 0}]}, [], []
    )
    assert found["rows"] == {"train": 10}


def test_exact_answers_are_of_three_hospitals_or_masked() -> None:
    """Of a finished model, asked in plain where one hospital alone has such rows, all would have
    had that one's figures."""

    def told(count: int, masked: bool, name: str = "evaluate") -> list[str]:
        answered = ["a", "b", "c"][:count]
        summary = {"procedure": name, "answered": answered, "published": ["evaluation.json"]}
        return shared_answers(summary, masked)

    shown = [bool(told(count, masked)) for masked in (False, True) for count in (1, 2, 3)]
    assert shown == [False, False, True, False, True, True]
    assert told(2, False, "describe")
    assert shared_summary({}, [], [], answers=False)["too_few"]


def test_means_of_few_hospitals_are_shown_to_nobody() -> None:
    means = {"auc": {"mean": 0.7, "hospitals": 1}, "ap": {"mean": 0.5, "hospitals": 3}}
    assert list(of_enough(means, 5)) == ["ap"]
    assert list(of_enough(means, 1)) == ["auc", "ap"]


def test_a_run_that_isnt_complete_or_lacks_a_file_has_no_package(run_of: Any) -> None:
    run = run_of()
    run.update(status="running")
    with pytest.raises(ResultsRefused, match="only a run that is complete"):
        make_package(run, SERVER, network="net")
    run.update(status="complete")
    (run.path / "plan.json").unlink()
    with pytest.raises(ResultsRefused, match="'plan.json' is not there"):
        make_package(run, SERVER, network="net")
    assert not (run.path / "results").exists()


class Killed(BaseException):
    """The process is gone: nothing that handles errors sees it."""


@pytest.mark.parametrize(
    ("place", "call"), [(module, "write_atomically"), (os, "rename"), (os, "link")]
)
def test_killed_at_any_point_and_made_again_it_is_the_same(
    run_of: Any, monkeypatch: pytest.MonkeyPatch, place: Any, call: str
) -> None:
    run = run_of()
    signed = make_package(run, SERVER, network="net").joinpath("files.json").read_bytes()
    real, calls = getattr(place, call), 0
    while True:
        shutil.rmtree(run.path / "results")
        left = [calls]

        def dying(*given: Any, left: list[int] = left) -> Any:
            left[0] -= 1
            if left[0] == -1:
                raise Killed
            return real(*given)

        monkeypatch.setattr(place, call, dying)
        try:
            make_package(run, SERVER, network="net")
        except Killed:
            assert not (run.path / "results").exists()
        monkeypatch.setattr(place, call, real)
        folder = make_package(run, SERVER, network="net")
        assert (folder / "files.json").read_bytes() == signed
        assert verify_folder(folder, SERVER.public) and not list(run.path.glob(".results*"))
        if left[0] >= 0:
            break
        calls += 1
    assert calls >= 1


def test_a_full_disk_says_so_and_leaves_no_package(
    run_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomically", full)
    with pytest.raises(RunDirectoryError, match="No space left"):
        make_package(run, SERVER, network="net")
    assert not (run.path / "results").exists()


def test_what_is_delivered_makes_the_same_folder_at_a_hospital(run_of: Any, tmp_path: Path) -> None:
    run = run_of()
    folder = make_package(run, SERVER, network="net", study="ab" * 32)
    package = package_of(folder, SERVER.public)
    messages = list(deliveries(folder, package, 1 << 20))
    *files, last = messages
    assert all(isinstance(one, StudyFile) and len(one.data) <= 1 << 19 for one in files)
    assert isinstance(last, StudyEnded) and (last.study, last.state) == ("ab" * 32, "complete")
    staging = Staging(
        tmp_path / "kit" / "r",
        Expected(SERVER.public, "net", "ab" * 32, run.path.name, 1 << 30),
    )
    staging.begin(files[0].data)
    for one in files[1:]:
        staging.put(one.name, one.offset, one.data)
    assert staging.finish() == Package.read(last.files, SERVER.public)
    over = ended("ab" * 32, "failed", "two\nlines")
    assert (over.state, over.reason, over.files) == ("failed", "two lines", b"")
