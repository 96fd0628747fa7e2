"""A judgement is of one model that was evaluated, and of exactly those hospitals: whatever else is
tried is refused, also after a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.secagg.test_opened_once import RUN, ask, brought
from wardround.client.secagg.asked import JUDGE, Asked
from wardround.client.secagg.contributions import Contributions, OtherThanBefore
from wardround.client.secagg.state import RUN_FORMAT, Group
from wardround.common.errors import ProtocolRefused, SharesGiven


def of(kind: str, number: int, model: bytes, totals: bytes = b"t") -> Asked:
    found = ask(kind, number, "test", digests=brought(model, totals))
    return replace(found, judged=True)


def evaluated(*rounds: int, whose: bytes = b"all") -> Contributions:
    """A run after these rounds, each of whose figures was opened."""
    record = Contributions(RUN)
    for number in rounds:
        record.upload(ask("train", number, digests=brought(b"%d" % (number - 1))))
        record.open([f"train {number}"], b"sum")
        record.upload(of("evaluate", number, b"%d" % number))
        record.open([f"evaluate {number} test"], b"sum", whose)
        record = again(record)
    return record


def again(record: Contributions) -> Contributions:
    """After a restart."""
    return read(RUN_FORMAT.seal(record.values()))


def read(stored: dict[str, object]) -> Contributions:
    return Contributions.of(RUN_FORMAT.read(stored, ProtocolRefused, "the store"))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_any_model_that_was_evaluated_may_be_judged_once(number: int) -> None:
    record = evaluated(1, 2, 3)
    asked = of(JUDGE, number, b"%d" % number)
    record.upload(asked)
    record = again(record)
    record.upload(asked)  # another attempt
    record.open([JUDGE], b"first", b"all")
    record = again(record)
    record.open([JUDGE], b"first", b"all")  # the same shares again
    with pytest.raises(SharesGiven):
        record.upload(asked)
    with pytest.raises(ProtocolRefused):  # another aggregation, another round's model
        record.open([JUDGE], b"second", b"all")
    for other in (of(JUDGE, 1, b"1"), of("evaluate", 3, b"3"), ask("train", 4)):
        with pytest.raises(ProtocolRefused):
            record.upload(other)


def test_another_model_is_refused_before_a_row_meets_it() -> None:
    record = evaluated(1, 2)
    for number, model in ((2, b"crafted"), (1, b"2"), (2, b"1")):
        with pytest.raises(OtherThanBefore, match="isn't the one of round"):
            record.check(of(JUDGE, number, model))
    with pytest.raises(OtherThanBefore, match="totals are others"):
        record.check(of(JUDGE, 2, b"2", b"other"))
    for number in (0, 3):
        with pytest.raises(ProtocolRefused, match=f"gave no figures of round {number}"):
            record.check(of(JUDGE, number, b"%d" % number))
    record.upload(of(JUDGE, 1, b"1"))
    with pytest.raises(OtherThanBefore):
        record.upload(of(JUDGE, 2, b"2"))


def test_figures_that_were_never_opened_are_no_ground() -> None:
    record = evaluated(1)
    record.upload(of("evaluate", 2, b"2"))
    with pytest.raises(ProtocolRefused, match="that were opened"):
        record.check(of(JUDGE, 2, b"2"))
    # nor are those of another split
    record.upload(replace(ask("evaluate", 2, "validation", digests=brought(b"2")), judged=True))
    record.open(["evaluate 2 validation"], b"sum", b"all")
    with pytest.raises(ProtocolRefused, match="that were opened"):
        record.check(of(JUDGE, 2, b"2"))


def test_shares_are_given_for_the_same_hospitals_alone() -> None:
    """One hospital more or fewer than in the figures, and their difference would be its own."""
    record = evaluated(1, whose=b"five")
    record.upload(of(JUDGE, 1, b"1"))
    for whose in (b"four", b"six", b""):
        with pytest.raises(ProtocolRefused, match="of other hospitals than the figures"):
            record.open([JUDGE], b"sum", whose)
    record.open([JUDGE], b"sum", b"five")
    unknown = evaluated(1, whose=b"")  # a group whose members weren't kept
    with pytest.raises(ProtocolRefused):
        unknown.check(of(JUDGE, 1, b"1"))


def test_whose_a_sum_is_are_names() -> None:
    names = ["east", "north", "south", "west"]
    usual = dict(first=0, count=1, threshold=3, survivors=3, window=0, ring=b"", holders=[])
    usual |= dict(names=[], exchanges=[], link=b"", link_index=0)

    def group(*everyone: str) -> Group:
        many = len(everyone)
        return Group(group=b"", clients=many, position=0, everyone=list(everyone), **usual)  # type: ignore[arg-type]

    one = group(*names).whose([0, 1, 3])
    assert one == group("east", "north", "west").whose([0, 1, 2]) != group(*names).whose([0, 1, 2])
    before = replace(group(*names), everyone=[])  # made by an earlier version
    assert before.whose([0, 1]) == b""


def test_nothing_is_kept_in_mind_where_no_judgement_is_planned() -> None:
    record = Contributions(RUN)
    record.upload(replace(of("evaluate", 1, b"1"), judged=False))
    record.open(["evaluate 1 test"], b"sum", b"all")
    assert record.figures == {}
    known = {k: v for k, v in record.values().items() if "figured" not in k and k != "judged"}
    older = {"format": RUN_FORMAT.name, "version": 1, **known}  # before there were judgements
    assert read(older) == record
