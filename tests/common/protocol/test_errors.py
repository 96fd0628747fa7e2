"""Error replies are told apart by their code, never by their sentence."""

from __future__ import annotations

import pytest
from flwr.app import Error, Message, RecordDict

from wardround.client.app import failure_reply
from wardround.common.errors import (
    BudgetSpent,
    DataError,
    EvaluatesLater,
    HospitalStopped,
    NotEvaluating,
    PrivacyRefused,
    ReplyRefused,
    SharesGiven,
    StoppedAfterFailures,
)
from wardround.common.flower.hosting import become_server, error_reply
from wardround.common.protocol.errors import (
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
    ("code", "expected"),
    [
        (1001, Code.BUDGET),
        (1002, Code.REJECTED),
        (1003, Code.EDITED),
        (1004, Code.FAILURES),
        (1005, Code.NOT_NOW),
        (1006, Code.GAVE_SHARES),
        (0, Code.FAILED),
        (5, Code.FAILED),
        (9999, Code.FAILED),
    ],
)
def test_a_code_is_ours_or_says_nothing(code: int, expected: Code) -> None:
    assert code_of(code) is expected


@pytest.mark.parametrize(
    ("error", "code", "meaning"),
    [
        (PrivacyRefused("nothing is left"), 1001, BudgetSpent),
        (StoppedAfterFailures("nothing is left"), 1004, HospitalStopped),
        (NotEvaluating("nothing is left"), 1005, EvaluatesLater),
        (SharesGiven("nothing is left"), 1006, SharesGiven),
    ],
)
def test_what_a_hospital_says_by_a_code_is_an_error_of_its_own(
    error: Exception, code: int, meaning: type[ReplyRefused]
) -> None:
    reply = failure_reply(request(), error)
    assert (reply.error.code, reply.error.reason) == (code, "nothing is left")
    with pytest.raises(meaning, match="^nothing is left$"):
        check_error(reply)
    same_words = error_reply(request(), "nothing is left")
    with pytest.raises(ReplyRefused) as caught:
        check_error(same_words)
    assert type(caught.value) is ReplyRefused


def test_any_other_failure_is_a_line_that_says_so() -> None:
    reply = failure_reply(request(), DataError("no column 'age'"))
    assert reply.error.code == 2
    with pytest.raises(ReplyRefused) as caught:
        check_error(reply)
    assert str(caught.value) == failed("no column 'age'") and has_failed(str(caught.value))
    assert not has_failed("train-loss is not a finite number")
    assert not Message(Error(1001, "x"), reply_to=request()).has_content()
