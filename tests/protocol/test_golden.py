"""Every message of the federation has the bytes that it had: tests/vectors/messages.json.

What is another value in each process, and so only known by its type and length, stands in
``capture.VARYING``; all else of a message is compared, in its order. Federations that are ``exact``
calculate with sums of powers of two, so whole messages are compared; of the others' floats the
types and shapes are.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.protocol.capture import VARYING, Crossed
from tests.protocol.golden import Golden, changed, differences, packed
from tests.protocol.made import made
from tests.protocol.scenarios import run, scenarios

GOLDEN = Golden.read()
TYPES = {
    *("query.describe", "query.statistics", "query.layout", "train", "train.begin", "evaluate"),
    *("query.sums", "query.letters"),
    *("query.hello", "query.group", "query.keys", "query.unmask"),
    *("query.deal", "query.dealt", "query.model", "query.give", "query.take"),
}


@pytest.mark.parametrize("name", scenarios())
def test_messages_of_a_federation_are_the_golden_ones(name: str, tmp_path: Path) -> None:
    messages = run(scenarios()[name], tmp_path)
    found = [f"{name}: {line}" for line in differences(GOLDEN.messages(name), messages)]
    assert not found, "\n".join(found[:20])


def test_what_is_made_by_hand_has_the_golden_bytes() -> None:
    found = [
        f"{name}: {line}"
        for name, lines in made().items()
        for line in changed(GOLDEN.made(name), lines)
    ]
    assert not found, "\n".join(found[:20])


def test_the_file_has_every_message_and_nothing_else() -> None:
    assert GOLDEN.names == {*scenarios(), *made()}
    messages = [x for name in scenarios() for x in GOLDEN.messages(name) if x.type != "run"]
    assert {(x.type, x.direction) for x in messages} == {(t, d) for t in TYPES for d in "><"}
    places = {
        f"{x.type} {x.direction} {line.partition(' ')[0]}" for x in messages for line in x.lines
    }
    assert set(VARYING) <= places, "a place that varies, of a message that nobody sends"


def test_a_difference_is_told_by_message_record_and_key() -> None:
    one = Crossed(
        "train", ">", "north", ["config ConfigRecord", "config/a int 1", "config/b int 2"]
    )
    content = packed({}, {"a run": [one, one]})
    assert Golden(content).messages("a run") == [one, one]
    other = Crossed("train", ">", "north", [one.lines[0], "config/c int 1", one.lines[2]])
    assert list(differences([one, one], [one, other])) == [
        "message 2, train > north: lost  config/a int 1",
        "message 2, train > north: new   config/c int 1",
    ]
    order = Crossed("train", ">", "north", [one.lines[0], *one.lines[:0:-1]])
    assert list(differences([one], [order])) == [
        "message 1, train > north: another order: config, config/b, config/a"
    ]
    whole = [Crossed("train", ">", "north", [*x.lines, f"= {x.lines}"]) for x in (one, order)]
    assert [x.partition(": ")[2][:7] for x in differences(*([x] for x in whole))] == [
        "lost  =",
        "new   =",
        "another",
    ]
    assert list(differences([one], [])) == ["1 messages were expected, 0 came"]
    reply = Crossed("train", "<", "north", [])
    assert list(differences([one], [reply])) == [
        "message 1: train > north was expected, train < north came"
    ]
