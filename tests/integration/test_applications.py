"""The applications among the examples, by their own commands, on an encoder of two layers.

Their figures stand in their pages and are those of the real encoder: here is held that each goes
its whole way, under masks, and that what decides does what its page says.
"""

from __future__ import annotations

import csv
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.common.tasks.text.tiny import tiny_encoder
from wardround.client.links.kept import Kept
from wardround.client.links.store import may_use
from wardround.client.site.joint_rules import check_joint
from wardround.client.site.policy import load_site
from wardround.common.config.load import load_config
from wardround.common.durable.tensors import read_tensors
from wardround.simulations.run.analyse import analyse

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("tiny") / "encoder", max_position_embeddings=160)


def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> ModuleType:
    """A copy of an example's script, as a module."""
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("data", "__pycache__"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "make", raising=False)
    spec = importlib.util.spec_from_file_location(f"{name}_{script}", folder / f"{script}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["example", *map(str, words)])
    module.main()


def quick(tmp_path: Path, encoder: Path, length: int = 150) -> list[str]:
    sets = [
        f"federation.runs={tmp_path / 'runs'}",
        "federation.rounds=1",
        "evaluation.every=1",
        "training.local_steps=1",
        "simulation.baselines=false",
    ]
    text = [f"task.encoder={encoder}", f"task.max_length={length}", "task.truncate=true"]
    return [word for one in (*sets, *text) for word in ("--set", one)]


def test_opinions_are_watched(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    watch = loaded(tmp_path, monkeypatch, "opinion_watch", "watch")
    whole = watch.make.mixed
    monkeypatch.setattr(watch, "POOL", 1)
    monkeypatch.setattr(watch.make, "mixed", lambda count, *rest: whole(min(count, 15), *rest))
    run(watch, monkeypatch, *quick(tmp_path, encoder, 80), "--streams", 2)
    said = capsys.readouterr().out
    assert "accuracy of topic" in said and "in 24 weeks" in said and "--per topic" in said
    folder = tmp_path / "opinion_watch" / "data"
    with (folder / "watched" / "stream.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == watch.WEEKS * watch.ROWS * 4
    with (folder / "west.csv").open(newline="") as file:
        west = [row for row in csv.DictReader(file) if row["split"] == "train"]
    assert "positive" not in {row["sentiment"] for row in west} and 0 < len(west) < 15


def test_a_surge_is_seen_where_the_model_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model that makes no errors: quiet streams are quiet, large surges are seen."""
    watch = loaded(tmp_path, monkeypatch, "opinion_watch", "watch")
    kinds = [(topic, said) for topic in watch.make.TOPICS for said in watch.make.SAID]
    pool = {kind: [kind] for kind in kinds}
    alarms, weeks = watch.false_alarms(pool, 0.0, 20)
    assert weeks == 240 and alarms <= 8  # of a chance of 1 %, one in 500 tries has more
    here, others = watch.seen(pool, 0.8, 10)
    assert here >= 8 and others <= 2


def test_a_help_desk_answers_or_says_that_it_cannot(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    desk = loaded(tmp_path, monkeypatch, "help_desk", "desk")
    whole = desk.make.questions
    few = [*desk.make.THINGS][:2] + [*desk.make.THINGS][-2:]
    monkeypatch.setattr(
        desk.make,
        "questions",
        lambda things, *rest: (q for q in whole([x for x in things if x in few], *rest)),
    )
    monkeypatch.setattr(desk.make.Random, "sample", lambda self, rows, n: [*rows][: min(n, 12)])
    run(desk, monkeypatch, *quick(tmp_path, encoder))
    said = capsys.readouterr().out.splitlines()
    lines = [line for line in said if line.startswith(("as it comes", "tuned"))]
    assert len(lines) == 6 and all("%" in line for line in lines)


def test_a_desk_with_a_perfect_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each passage has a direction of its own, and so has what nothing answers: all right, with its
    source, and what isn't in the handbook is refused."""
    desk = loaded(tmp_path, monkeypatch, "help_desk", "desk")
    make = desk.make
    book = [*make.handbook().values()]
    place = {one.text: number for number, one in enumerate(book)}
    asked = make.asked_anew()
    data = make.hospitals()["north"]
    everything = [*data["train"], *data["validation"], *asked["known"], *asked["new"]]
    place |= {one.text: place[one.answer] for one in everything}
    place |= {text: len(book) + number for number, text in enumerate(make.OTHERS)}

    def embed(texts: list[str]) -> np.ndarray:
        return np.eye(len(book) + len(make.OTHERS))[[place[text] for text in texts]]

    made = desk.Desk(embed, data["train"], data["validation"])
    for kind in ("known", "new"):
        answers = made.answers([one.text for one in asked[kind]])
        assert [x.text for x in answers] == [one.answer for one in asked[kind]]
        assert all(one.source.startswith("handbook") for one in answers)
    assert all(one == desk.Answer("", "") for one in made.answers([*make.OTHERS]))


def test_users_stay_at_their_hospital_and_words_rank_what_nobody_chose(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    compare = loaded(tmp_path, monkeypatch, "recommender", "compare")
    monkeypatch.setattr(compare.make, "USERS", {"north": 5, "south": 4, "east": 3, "west": 2})
    runs = f"federation.runs={tmp_path / 'runs'}"
    text = quick(tmp_path, encoder)[2:]
    text = ["--set-meaning" if word == "--set" else word for word in text]
    run(compare, monkeypatch, "--set", runs, "--set", "federation.rounds=3", *text)
    said = capsys.readouterr().out.splitlines()
    assert len([x for x in said if x.startswith(("what is", "factors", "meaning"))]) == 6
    (folder,) = (tmp_path / "runs").glob("recommender-2*")
    shared, _ = read_tensors(folder / "model" / "model.safetensors")
    assert {"items.weight", "own.weight"} == set(shared)
    kept = {
        name: read_tensors(folder / "model" / "hospitals" / f"{name}.safetensors")[0]
        for name in compare.make.USERS
    }
    assert all(one["users.weight"].shape == (64, 8) for one in kept.values())
    assert not np.array_equal(kept["north"]["users.weight"], kept["south"]["users.weight"])
    np.testing.assert_array_equal(kept["north"]["items.weight"], shared["items.weight"])


def test_two_places_have_the_persons_whom_each_writes_in_its_own_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also under the rules that the example gives each place."""
    make = loaded(tmp_path, monkeypatch, "two_places", "make")
    monkeypatch.setattr(make, "PERSONS", 150)
    monkeypatch.setattr(make, "BOTH", 60)
    places, folder = tmp_path / "places", tmp_path / "two_places"
    places.mkdir()
    make.make(places)
    (places / "everything.csv").unlink()
    link = load_config(folder / "link.toml", [f"data.path={places}"])
    found = analyse(link)
    for place in ("lab", "registry"):
        (kept,) = Kept(found.run_directory / "links" / place).records()
        assert kept.persons == 60 and may_use(kept, "who-dies"), kept
        shutil.copy(folder / f"{place}.toml", tmp_path / "site.toml")
        rules = load_site(tmp_path / "site.toml")
        for study in (link, load_config(folder / "model.toml")):
            check_joint(rules, study, place)
            assert study.procedure.name in rules.procedures
