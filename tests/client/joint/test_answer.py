"""What leaves a hospital in a joint procedure when its own data end it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from wardround.client.data.hospital import Hospital
from wardround.client.joint.answer import answer_letters
from wardround.client.state import ClientState
from wardround.common.config.load import parse_config
from wardround.common.errors import DataError, JointRefused
from wardround.common.protocol.letters import LettersRequest

TOLD = "/data/lab.csv:17: column 'crp' is empty in every row that is used"


class Failing:
    """A seat whose party meets a cell that it can't compute with."""

    def take(self, request: LettersRequest) -> Any:
        raise DataError(TOLD)


def answer(simulated: bool) -> str:
    state = cast(ClientState, SimpleNamespace(records=object()))
    hospital = SimpleNamespace(
        config=parse_config('[procedure]\nname = "linkage"'),
        plan=SimpleNamespace(run="1"),
        working={"joint": (("1", id(state.records)), Failing())},
        simulated=simulated,
    )
    with pytest.raises(JointRefused) as error:
        answer_letters(LettersRequest(2).to_records(), cast(Hospital, hospital), state)
    return str(error.value)


def test_the_others_learn_that_its_data_do_not_fit_and_its_log_says_where(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = answer(simulated=False)
    assert told == "its data don't fit the study; that hospital's own log says where and why"
    assert TOLD in caplog.text
    assert answer(simulated=True) == TOLD
