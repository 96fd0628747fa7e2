"""A hospital's own figures: those that the server got of it in plain, worked out at home.

Hospitals are unlike: one has one row, one two, one a single class, one none of a category.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.client.results.federated import Federated, federated
from tests.unlike import Consortium
from wardround.client.results.figures import OwnFigures, read_own, share
from wardround.client.results.left import Left
from wardround.client.results.own import own_figures
from wardround.client.results.page import page
from wardround.client.results.receiver import Receiver
from wardround.common.audit.log import AuditLog
from wardround.common.drift.field import fields_of
from wardround.common.drift.reference import Reference
from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.figures.curves import Groups
from wardround.common.figures.figure import BOUND_SENTENCE
from wardround.common.model.saved import SavedModel
from wardround.common.model_folder.folder import read_schema
from wardround.common.model_folder.listed import digest_of
from wardround.common.predict import load_model

Ended = Callable[[str, str], Path]


@pytest.fixture(scope="module", autouse=True)
def nothing_reaches_the_disk() -> Iterator[None]:
    """No power is cut here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, unlike: Callable[[str], Consortium]) -> Any:
    """A run by task kind and strategy."""
    place = tmp_path_factory.mktemp("federated")

    @cache
    def run(kind: str, *overrides: str) -> Federated:
        return federated(unlike(kind), place / f"{kind}-{len(overrides)}", *overrides)

    return run


def ended(run: Federated, name: str, kit: Path) -> Path:
    """The results of a run at one hospital."""
    with AuditLog.open(kit / "audit.jsonl", "north", None) as audit:
        audit.append("received", kind="train", request="a", told={"run": run.run.path.name})
        audit.append("sent", kind="train", request="a", bytes=10, protection="none")
        receiver: Receiver = run.receiver(kit, audit, name=name)
        for message in run.messages():
            receiver.answer(message.type, message.to_records())
    return kit / "results" / run.run.path.name


@pytest.fixture(scope="module")
def at_home(runs: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The results of a run at every hospital, by name."""
    place = tmp_path_factory.mktemp("home")

    @cache
    def results(kind: str) -> dict[str, Path]:
        run = runs(kind)
        return {name: ended(run, name, place / f"{kind}-{name}") for name in run.hospitals}

    return results


@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_figures_at_home_are_those_that_a_request_gets(runs: Any, at_home: Any, kind: str) -> None:
    """Exactly: the same sums. In a plain run the server has each hospital's own."""
    run = runs(kind)
    theirs = run.run.rounds()[-1]
    table, compared = next(iter(run.hospitals.values())).task.figure_table(), 0
    for name, folder in at_home(kind).items():
        found = read_own(folder)
        assert (found.hospital, found.round, found.primary) == (name, 2, table.primary.name)
        expected = theirs["hospitals"].get(name, {})
        for split in ("validation", "test"):
            shown = {k: v if v == v else None for k, v in expected.get(split, {}).items()}
            assert found.figures.get(split, {}) == shown, (name, split)
            compared += len(shown)
        none = "This hospital has no test rows." in found.notes
        assert none == ("test" not in expected)
        assert "This hospital has no validation rows." not in found.notes  # nobody has any
        assert found.federation["test"]["overall"] == theirs["overall"]["test"]
        text = (folder / "own" / "report.html").read_text()
        assert name in text and "–" in text
    assert compared >= 20


@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_what_later_rows_are_held_against_is_kept_for_the_hospital_alone(
    runs: Any, at_home: Any, kind: str
) -> None:
    for name, folder in at_home(kind).items():
        path = folder / "own" / "reference.json"
        assert path.stat().st_mode & 0o777 == 0o600
        fields = fields_of(read_schema(folder / "model"))
        found = Reference.read(path, fields, digest_of((folder / "model/files.json").read_bytes()))
        sizes = runs(kind).hospitals[name].sizes()
        held = sizes.get("test", 0) + sizes.get("validation", 0)
        assert found.whose == name and found.counts.rows("input") == sum(sizes.values())
        assert found.counts.rows("score") == held
        figures = read_own(folder).figures.get("test", {})
        theirs = {one.name: one.value for one in found.figures}
        if held >= 5 and kind == "binary":
            assert theirs["brier"] == pytest.approx(figures["brier"], abs=1e-9)
            if (auc := figures["auc"]) is not None:
                assert theirs["auc"] == pytest.approx(auc, abs=figures["auc_error_bound"] + 1e-9)


def test_one_row_no_rows_and_one_class_are_sentences(at_home: Any) -> None:
    owns = {name: read_own(folder) for name, folder in at_home("binary").items()}
    notes = {name: " ".join(one.notes) for name, one in owns.items()}
    assert "This hospital has no test rows." in notes["1002"]  # it has one row
    tested = {name: one.figures["test"] for name, one in owns.items() if "test" in one.figures}
    without = [name for name, figures in tested.items() if figures["auc"] is None]
    assert without and all("auc, " in notes[x] and "lack a class" in notes[x] for x in without)
    assert re.search(r"Of \w+ rows \(test\) a figure says little", notes["south"])


@pytest.mark.parametrize("personal", ["personal_layers=['bias']", "name='ditto'"])
def test_personal_layers_are_joined_and_evaluated_as_in_the_run(
    runs: Any, tmp_path: Path, personal: str
) -> None:
    run = runs("binary", f"strategy.{personal}")
    theirs = run.run.rounds()[-1]["hospitals"]
    for name, hospital in run.hospitals.items():
        folder = ended(run, name, tmp_path / name)
        found = read_own(folder)
        if name not in theirs:  # it trains nothing, so it has no layers of its own
            assert found.figures == {} and any("stay with each hospital" in x for x in found.notes)
            continue
        shown = {k: v if v == v else None for k, v in theirs[name]["test"].items()}
        assert found.figures["test"] == shown
        saved = SavedModel(folder / "model", hospital.task, hospital.config.federation.seed)
        assert saved.hospitals() == [name] and saved.personal
        whole = saved.load(name)
        predicts = load_model(folder, name).module.state_dict()
        assert all(torch.equal(predicts[k], v) for k, v in whole.state_dict().items())
        own, _ = read_tensors(hospital.model_folder / "round-0002.safetensors")  # type: ignore[operator]
        for key, value in own.items():
            assert torch.equal(whole.state_dict()[key], torch.from_numpy(value)), key


def test_own_layers_dont_join_another_model_than_was_evaluated_here(
    runs: Any, tmp_path: Path
) -> None:
    run = runs("binary", "strategy.personal_layers=['bias']")
    folder = ended(run, "north", tmp_path)
    path = folder / "model" / "model.safetensors"
    arrays, state = read_tensors(path)
    name = next(name for name, value in arrays.items() if value.dtype == np.float32)
    write_tensors(path, arrays | {name: arrays[name] + np.float32(1)}, state)
    found = own_figures(run.hospitals["north"], folder)
    assert found.figures == {} and f"'{name}' in the results isn't what" in found.notes[0]


def test_a_model_or_a_record_that_cant_be_read_is_a_note(runs: Any, tmp_path: Path) -> None:
    run = runs("binary")
    folder = ended(run, "north", tmp_path)
    (folder / "model" / "model.safetensors").write_bytes(b"torn")
    for text in (
        '{"round":2,"overall":3}',
        '{"round":[1]}\n',
        "[]",
        '{"round":2,"overall":{"test":{}}}',
    ):
        (folder / "metrics.jsonl").write_text(text)
        (folder / "run.json").write_text('{"chosen_round":2,"rows":{"train":-1,"test":1e9}}')
        found = own_figures(run.hospitals["north"], folder)
        assert "can't be evaluated here" in found.notes[0]
        assert found.federation == {} and found.all_rows == {}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_runs_nothing_loads_nothing_and_escapes_all(runs: Any) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=y>\"'"
    table = runs("binary").hospitals["north"].task.figure_table()
    figures: dict[str, float | None] = {evil: 0.5, "auc": 0.75, "auc_error_bound": 0.01}
    found = OwnFigures(
        "", evil, evil, 3, evil, {"test": 5}, {"test": 20}, {"test": figures},
        {"test": {"mean": {"auc": 0.5, evil: 1.0}, "overall": {}}}, [evil],
    )  # fmt: skip
    left = Left("", evil, [], {evil: 1500, "masked": 0}, 1.5, {"seq": 3, "hash": evil})
    tags = Tags()
    tags.feed(text := page(found, table, left, f"Why? {evil}"))
    assert {tag for tag, _ in tags.found} == {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "ul", "li", "b"),
        *("span", "div", "table", "thead", "tbody", "tr", "th", "td", "code"),
    }
    names = {name for _, attrs in tags.found for name in attrs}
    assert names == {"lang", "charset", "http-equiv", "content", "name", "class"}
    cells = ("0.750 ±0.010", "", "0.500")
    assert "".join(f'<td class="num">{cell}</td>' for cell in cells) in text
    assert text.count(BOUND_SENTENCE) == 1 and "<p>Why? &lt;script&gt;" in text
    assert "25.0%" in text and "1.5 kB" in text and share(found, "train") != share(found, "train")
    json.dumps(text)


def test_own_curves_stand_beside_those_of_all_hospitals(runs: Any) -> None:
    """Also where the server's are no curves: they are cut to the plot, or left out."""
    table = runs("binary").hospitals["north"].task.figure_table()
    own = {"low": [0.0, 0.5], "positives": [1.0, 3.0], "negatives": [3.0, 1.0], "score": [0.2, 0.8]}
    found = OwnFigures(
        *("", "run", "north", 3, "auc", {"test": 8}, {}, {"test": {"auc": 0.75}}, {}),
        intervals={"test": {"auc": [0.4, 0.93]}},
        curves={"test": own},
    )
    left = Left("", "run", [], {}, None, {"seq": 3, "hash": ""})
    hostile = Groups([0.0, 0.5], [1e308, math.nan], [-5.0, 9.0], [1e9, -3.0])
    for theirs in ({}, {"test": Groups(**own)}, {"test": hostile}):
        text = page(found, table, left, "", theirs)
        assert "0.400 to 0.930" in text and text.count("<svg") == 2
        assert ("all hospitals</text>" in text) == bool(theirs)
        assert "nan" not in text.split("<svg", 1)[1] and "inf" not in text.split("<svg", 1)[1]
        places = re.findall(r'd="M([\d. L-]+)"', text)
        numbers = [float(x) for one in places for x in re.split("[ L]", one)]
        assert numbers and all(0 <= x <= 360 for x in numbers)
    # three quarters are found at a quarter of false alarms: x = 46 + 75, y = 6 + 75
    assert "L121.0 81.0L" in page(found, table, left)
