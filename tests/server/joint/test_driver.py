"""What a server takes of a party that lies in its turns: in a simulation no gate is before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from wardround.client import app
from wardround.client.data.hospital import Hospital
from wardround.client.joint.answer import answer_letters
from wardround.client.state import ClientState
from wardround.common.errors import RoundFailed
from wardround.common.protocol.letters import LettersReply, LettersRequest
from wardround.common.protocol.message import Content
from wardround.simulations import analyse

SETTINGS = """
[federation]
round_attempts = 1
[data]
path = "data"
[task]
name = "linked"
[task.identifiers]
person = "exact"
[task.parties.lab]
numeric = ["crp"]
[task.parties.ward]
numeric = ["age"]
[procedure]
name = "linkage"
smallest = 3
padded = 2
most_rows = 10
"""
Lie = Callable[[LettersReply], LettersReply]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two places with 5 and 6 persons, of whom 4 are the same."""
    (tmp_path / "data").mkdir()
    for name, column, persons in (("lab", "crp", range(1, 6)), ("ward", "age", range(2, 8))):
        rows = "".join(f"p{n},{n}.5\n" for n in persons)
        (tmp_path / "data" / f"{name}.csv").write_text(f"person,{column}\n{rows}")
    (tmp_path / "federation.toml").write_text(SETTINGS)
    return tmp_path / "federation.toml"


LIES: dict[str, tuple[int, Lie, str]] = {
    "no key": (0, lambda turn: replace(turn, key=None), "key of the run is lacking"),
    "a key again": (2, lambda turn: replace(turn, key=bytes(96)), "key of the run is lacking"),
    "to a stranger": (2, lambda turn: replace(turn, letters={"x": b"a"}), "not those of the plan"),
    "to itself": (2, lambda turn: replace(turn, letters={"lab": b"a"}), "not those of the plan"),
    "too long": (
        2,
        lambda turn: replace(turn, letters={"ward": bytes(10_000)}),
        "not those of the plan",
    ),
    "told early": (
        2,
        lambda turn: replace(turn, told={"linkage.json": "{}"}),
        "what it tells is not what the plan has",
    ),
    "told another file": (
        5,
        lambda turn: replace(turn, told={"../run.json": "{}"}),
        "what it tells is not what the plan has",
    ),
    "told another thing": (
        5,
        lambda turn: replace(turn, told={"linkage.json": "{}"}),
        "the parties tell different things",
    ),
}


@pytest.mark.parametrize("what", LIES)
def test_a_turn_that_the_plan_doesnt_have_ends_the_run(
    what: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, lie, words = LIES[what]

    def lying(content: Content, hospital: Hospital, state: ClientState) -> Content:
        said = answer_letters(content, hospital, state)
        if hospital.name != "lab" or LettersRequest.from_records(content).step != step:
            return said
        return lie(LettersReply.from_records(said)).to_records()

    monkeypatch.setattr(app, "answer_letters", lying)
    with pytest.raises(RoundFailed, match=words):
        analyse(file)
    assert not list(file.parent.glob("runs/*/linkage.json"))
