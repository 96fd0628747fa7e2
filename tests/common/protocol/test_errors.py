"""Error replies are told apart by code; by their sentence where the other side knows no codes."""

from __future__ import annotations

import pytest
from flwr.app import Error, Message, RecordDict

from wardround.client.app import failure_reply
from wardround.common.errors import BudgetSpent, DataError, PrivacyRefused, ReplyRefused
from wardround.common.flower.hosting import become_server, error_reply
from wardround.common.protocol.errors import (
    BUDGET,
    REJECTED,
    Code,
    code_of,
    failed,
    has_failed,
)
from wardround.server.gathering.replies import check_error


def request() -> Message:
    become_server(1)
    return Message(RecordDict(), 1, "train")


@pytest.mark.parametrize(
    ("reason", "code", "expected"),
    [
        ("anything at all", 1001, Code.BUDGET),
        ("anything at all", 1002, Code.REJECTED),
        (f"{BUDGET}nothing is left", 2, Code.BUDGET),
        (f"{REJECTED}'run-1'", 2, Code.REJECTED),
        ("it said privacy: nothing is left", 2, Code.FAILED),
        ("no answer", 5, Code.FAILED),
        (None, 0, Code.FAILED),
        ("a number that nobody knows", 1003, Code.FAILED),
    ],
)
def test_a_code_is_the_replys_own_or_what_its_sentence_stands_for(
    reason: str | None, code: int, expected: Code
) -> None:
    assert code_of(reason, code) is expected


def test_a_spent_budget_is_known_from_a_client_with_codes_and_from_one_without() -> None:
    new = failure_reply(request(), PrivacyRefused("nothing is left"))
    assert (new.error.code, new.error.reason) == (1001, "privacy: nothing is left")
    old = error_reply(request(), "privacy: nothing is left")
    assert old.error.code == 2
    for reply in (new, old):
        with pytest.raises(BudgetSpent, match="^privacy: nothing is left$"):
            check_error(reply)


def test_any_other_failure_is_a_line_that_says_so() -> None:
    reply = failure_reply(request(), DataError("no column 'age'"))
    assert reply.error.code == 2
    with pytest.raises(ReplyRefused) as caught:
        check_error(reply)
    assert str(caught.value) == failed("no column 'age'") and has_failed(str(caught.value))
    assert not has_failed("train-loss is not a finite number")
    assert not Message(Error(1001, "x"), reply_to=request()).has_content()
