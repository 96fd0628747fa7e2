"""A hospital answers a step of a procedure only as its own program would ask it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from tests.secagg.driver import CONTENT
from tests.secagg.test_opened_once import RUN, ask
from wardround.client.data.hospital import Hospital, Place, Share
from wardround.client.data.shard import OwnShard
from wardround.client.privacy.ledger import Ledger
from wardround.client.privacy.sizes import announced_sizes
from wardround.client.requests.steps import AskedStep, answer_step, begin_step
from wardround.client.secagg.asked import Asked, Step
from wardround.client.secagg.contributions import Contributions, OtherThanBefore
from wardround.client.secagg.masking import check_exactly
from wardround.client.state import ClientState
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import CheckpointError, DataError, ProtocolRefused, RequestRefused
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import encode_arrays
from wardround.common.procedures.known import make_procedure
from wardround.common.procedures.statistics.procedure import Statistics
from wardround.common.protocol.masked import MaskedTask
from wardround.common.protocol.sums import SumsReply, SumsRequest, joined
from wardround.common.protocol.totals import Totals
from wardround.common.secagg.content import (
    Digests,
    encode_sums_layout,
    record_digest,
    sums_digest,
)
from wardround.common.tasks.data.table import Table
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


PRIVATE = """
[task]
name = "tabular"
kind = "none"
[procedure]
name = "statistics"
[[procedure.analyses]]
name = "survival"
kind = "kaplan_meier"
time = "days"
event = "died"
horizon = 50.0
grid = 10.0
[secure_aggregation]
enabled = false
[privacy]
unit = "example"
epsilon = 5.0
"""


def private_hospital(folder: Path) -> Hospital:
    config = parse_config(PRIVATE)
    task, ledger = make_task(config), folder / "ledger.sqlite"
    Ledger.create(ledger, "a").close()
    columns = {
        "days": [10.0 * (row % 5) for row in range(40)],
        "died": [row % 2 for row in range(40)],
    }
    shard = OwnShard("a", task, config, lambda: Table.of(columns, Path("rows")))
    return Hospital(shard, place=Place(simulated=True, ledger_path=ledger))


def test_under_privacy_zeros_follow_from_the_noised_number_of_units(tmp_path: Path) -> None:
    """By the true one, a unit more would turn zeros into all the sums."""
    of = private_hospital(tmp_path)
    announced = sum(announced_sizes(of).values())
    assert announced != sum(of.sizes().values()) == 40
    for least, rows in ((announced, 40), (announced + 1, 0)):
        of.share = Share(persons=least)
        assert begin_step(of, 0, Totals.of({})).sums(of)["rows"][0] == rows


def test_what_fails_on_rows_in_a_later_private_step_leaves_noise_and_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, state = private_hospital(tmp_path), ClientState(RecordDict())

    def answer(step: int, totals: Sums) -> Sums:
        request = SumsRequest(step, Totals.of(totals))
        return dict(SumsReply.from_records(answer_step(request.to_records(), of, state)).sums)

    first = answer(0, {})
    usual = answer(1, joined([first]))
    plain = Statistics.sums

    def failing(self: Statistics, parts: Any, earlier: list[Sums]) -> Sums:
        plain(self, parts, earlier)
        raise DataError("a row is not like the others")

    monkeypatch.setattr(Statistics, "sums", failing)
    with pytest.raises(DataError):  # nothing of the server's is in the first step
        answer(0, {})
    found = answer(1, joined([first]))
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in usual.items()}
    assert sum(float((usual[k] - found[k]).sum()) for k in usual) == 40  # the same noise, of a seed


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
