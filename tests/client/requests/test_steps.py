"""A hospital answers a step of a procedure only as its own program would ask it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.secagg.driver import CONTENT
from tests.secagg.test_opened_once import RUN, ask
from wardround.client.data.hospital import Share
from wardround.client.requests.steps import AskedStep, begin_step
from wardround.client.secagg.contributions import Asked, Contributions, OtherThanBefore, Step
from wardround.client.secagg.masking import check_exactly
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import CheckpointError, ProtocolRefused, RequestRefused
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import encode_arrays
from wardround.common.procedures.known import make_procedure
from wardround.common.protocol.masked import MaskedTask
from wardround.common.protocol.sums import joined
from wardround.common.protocol.totals import Totals
from wardround.common.secagg.content import (
    Digests,
    encode_sums_layout,
    record_digest,
    sums_digest,
)
from wardround.common.tasks.tabular import breast_cancer
from wardround.server.rounds.stepping import read_steps, write_steps


class Site:
    """What ``begin_step`` asks of a hospital."""

    def __init__(self, text: str = '[procedure]\nname = "describe"\n') -> None:
        self.config: Config = parse_config(text)
        self.task = make_task(self.config)


def steps() -> list[Sums]:
    site, earlier = Site(), list[Sums]()
    procedure = make_procedure(site.config, site.task)
    while procedure.more(earlier):
        earlier.append(procedure.sums({"train": breast_cancer()}, earlier))
    return earlier


STEPS = steps()


def asked(step: int, earlier: list[Sums], site: Site | None = None) -> None:
    begin_step(site or Site(), step, Totals.of(joined(earlier)))  # type: ignore[arg-type]


def test_its_own_steps_are_answered_and_no_more() -> None:
    for step in range(3):
        asked(step, STEPS[:step])
    assert len(STEPS) == 3
    with pytest.raises(RequestRefused, match="asks nothing after step 3 with these totals"):
        asked(3, STEPS)
    with pytest.raises(RequestRefused, match="6 steps at most, and the request is for number 7"):
        asked(6, STEPS)
    with pytest.raises(RequestRefused, match="trains a model, and has no other procedure"):
        asked(0, [], Site(""))


def test_other_totals_than_the_steps_make_are_refused() -> None:
    first, second, _ = STEPS
    for step, earlier, words in (
        (0, [first], "not those of the steps before"),
        (1, [first, second], "not those of the steps before"),
        (2, [first], "are not what 'describe' asks for"),  # the second step's are lacking
        (2, [first, second | {"numeric/x/squares": np.ones(1)}], "are not what 'describe' asks"),
        (2, [first, {key: np.ones(2) for key in second}], "are not what 'describe' asks"),
    ):
        with pytest.raises(RequestRefused, match=words):
            asked(step, earlier)


def test_other_sums_than_it_works_out_are_refused() -> None:
    shapes = {"a": (1,), "b": (3,)}
    check_exactly(MaskedTask(b"", encode_sums_layout(shapes)), shapes)
    for other in ({"a": (1,)}, shapes | {"c": (1,)}, shapes | {"b": (4,)}):
        with pytest.raises(ProtocolRefused, match="asked for otherwise than this hospital works"):
            check_exactly(MaskedTask(b"", encode_sums_layout(other)), shapes)


class Few:
    """What ``AskedStep.sums`` asks of a hospital."""

    def __init__(self, least: int) -> None:
        self.config, self.share = Config(), Share(persons=least)
        self.task = make_task(parse_config('[procedure]\nname = "describe"\n'))

    def parts(self) -> dict[str, object]:
        return {"train": breast_cancer()}


def test_with_fewer_persons_than_it_will_answer_for_it_adds_zeros() -> None:
    step = AskedStep(make_procedure(Site().config, Site().task), [])
    enough = step.sums(Few(569))  # type: ignore[arg-type]
    few = step.sums(Few(570))  # type: ignore[arg-type]
    assert enough["rows"][0] == 569
    assert {key: value.shape for key, value in few.items()} == {
        key: value.shape for key, value in enough.items()
    }
    assert not any(value.any() for value in few.values())


def digests(earlier: list[Sums]) -> Digests:
    records = {"totals": record_digest(encode_arrays(joined(earlier)))}
    return Digests(records, CONTENT)


def test_a_step_is_opened_once_and_goes_on_from_the_totals_of_the_last() -> None:
    first, second, third = STEPS
    record = Contributions(RUN)

    def of(step: int, brought: list[Sums], before: list[Sums] | None = None) -> Asked:
        totals = record_digest(encode_arrays(joined(before))) if before is not None else b""
        one = ask("sums", step, digests=digests(brought))
        known = sums_digest(totals) if before is not None else b""
        return replace(one, step=Step("sums", step, before=known))

    record.upload(of(0, []))
    record.upload(of(1, [first], []))
    record.open(["sums 1"], b"one")
    with pytest.raises(ProtocolRefused, match="takes part in no other one"):
        record.check(of(1, [first], []))
    with pytest.raises(ProtocolRefused, match="a later sum of the run"):
        record.check(of(0, []))
    lie = {key: value + 1 for key, value in first.items()}
    with pytest.raises(OtherThanBefore, match="others than the last step was asked with"):
        record.check(of(2, [lie, second], [lie]))
    record.upload(of(2, [first, second], [first]))
    with pytest.raises(OtherThanBefore, match="others than in an earlier attempt"):
        record.upload(of(2, [first, third], [first]))
    assert Step("sums", 2).is_purpose("sums 2") and not Step("sums", 2).is_purpose("sums 20")


def test_what_the_server_keeps_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "steps.safetensors"
    assert read_steps(path) == ([], None)
    write_steps(path, STEPS[:2], ["b", "a"])
    found, names = read_steps(path)
    assert names == ["b", "a"] and len(found) == 2
    assert all(np.array_equal(found[0][key], value) for key, value in STEPS[0].items())
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError):
        read_steps(path)
