"""Nothing of a hospital's own is in what leaves of an error: not its files, folders, columns,
categories, cells, nor numbers of rows; the words that it has itself are told by its own log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.client.process.network import SITE, Network, StudyRounds
from wardround.client.process.pipe import read_error, told_error
from wardround.client.site.outward import Outward
from wardround.client.site.standing import list_studies
from wardround.common import errors
from wardround.common.errors import WardroundError, outside_words
from wardround.common.protocol import names as m
from wardround.common.protocol.describe import DescribeReply, DescribeRequest

OWN = "zqx"
"""In all that is a hospital's own; no study asks for it."""
ROWS = [f"{n % 7}.5,{n % 5},p{n},{n % 2},{OWN}{n}" for n in range(1, 34)]
HEADER = f"first,second,patient,ill,{OWN}_note"
TELL = {
    "RequestRefused",
    "ReplyRefused",
    "ProtocolRefused",
    "JointRefused",
    "SharesGiven",
    "BudgetSpent",
    "HospitalStopped",
    "EvaluatesLater",
    "DescriptionExpired",
    "PlanRefused",
    "PlanRejected",
    "WaitsForApproval",
    "StoppedAfterFailures",
    "StudyRefused",
    "StudyUnknown",
    "Overtaken",
    "Deposed",
    "StudyIsOver",
}
"""Kinds whose texts were looked through: they hold what was asked, and the protocol's own."""
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, WardroundError)
    if kind is not errors.PartlyFailed  # a server's, with a number
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_leaves_of_a_kind_is_its_own_sentence_or_written_for_the_outside(
    kind: type[WardroundError],
) -> None:
    error = kind(f"{OWN}.csv: no", who=OWN, mend=f"it has {OWN}")
    assert (OWN in outside_words(error)) is (kind.__name__ in TELL)
    said = kind(f"{OWN}.csv: no", who=OWN, told="there is no column 'age'")
    for one in (said, read_error(told_error(said))):  # and through a child's pipe
        assert isinstance(one, WardroundError)
        assert outside_words(one) == "there is no column 'age'"


def test_a_stranger_of_an_error_is_its_kind_alone() -> None:
    assert OWN not in outside_words(ValueError(OWN))


def _file(header: str = HEADER, rows: list[str] = ROWS) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        path = folder / f"{OWN} folder" / f"Dr {OWN}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return f"[data.{OWN}]\npath = '{path}'\n[studies.'*']\ndata = '{OWN}'\n"

    return write


def _then(before: Callable[[Path], str], more: str, first: str = "") -> Callable[[Path], str]:
    return lambda folder: f"{first}{before(folder)}{more}"


def _gone(folder: Path) -> str:
    rules = _file()(folder)
    (folder / f"{OWN} folder" / f"Dr {OWN}.csv").unlink()
    return rules


def _unnamed(folder: Path) -> str:
    """Two sets of data, and nothing says which."""
    path = folder / f"{OWN}.csv"
    return f"[data.{OWN}]\npath = '{path}'\n[data.{OWN}2]\npath = '{path}'\n"


MAPPED = f"[data.{OWN}.map.rename]\nsecond = '{OWN}_missing'\n"
CASES: dict[str, tuple[Callable[[Path], str], str]] = {
    "a column lacks": (
        _file(HEADER.replace("second", f"{OWN}_second")),
        "there is no column 'second'; that hospital's site.toml can map",
    ),
    "a cell is no number": (_file(rows=[f"{OWN},1,p0,0,x", *ROWS]), "its data don't fit"),
    "more classes": (_file(rows=[*ROWS, f"1.5,2,p9,{OWN},x"]), "its data don't fit"),
    "a constant target, one row": (_file(rows=ROWS[:1]), ""),
    "no rows": (_file(rows=[]), "its data don't fit"),
    "a name twice": (_file(f"{HEADER},{OWN}_note", [f"{x},1" for x in ROWS]), "its data don't"),
    "torn": (_file(rows=[*ROWS, f'1,"{OWN}']), "its data don't fit"),
    "no file": (_gone, "its"),
    "which data": (_unnamed, ""),
    "columns that are allowed": (
        _then(_file(), "", f"columns = ['first', '{OWN}*']\n"),
        "site.toml: columns: the study asks for column 'ill', which",
    ),
    "a mapping": (_then(_file(), MAPPED), "its data"),
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    made = Network(tmp_path_factory.mktemp("network"), SITE, data=False)
    yield made
    made.close()


def _said(rounds: StudyRounds) -> list[str]:
    """Whatever comes from the hospital when it is shown a plan, and asked who it is."""
    try:
        rounds.show(rounds.manifest())
    except WardroundError as error:
        return [str(error)]
    reply = rounds.ask("north", DescribeRequest().to_records(), m.DESCRIBE)
    if reply.has_error():
        return [str(reply.error.reason)]
    return list(DescribeReply.from_records(reply.content).warnings)


@pytest.mark.parametrize("case", CASES)
def test_what_a_hospital_refuses_with_holds_nothing_of_its_own(
    network: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    write, leaves = CASES[case]
    (network.kits["north"] / "site.toml").write_text(SITE + write(tmp_path))
    rounds = network.running(network.study(f"s{list(CASES).index(case)}", hospitals=("north",)))
    with caplog.at_level(logging.WARNING):
        said = _said(rounds)
    assert not [line for line in said if OWN in line.lower()]
    if leaves:
        assert leaves in said[0]
        assert OWN in caplog.text  # the hospital's own log has the whole
        (at,) = (x for x in list_studies(network.kits["north"]) if x.startswith(rounds.study[:12]))
        assert "not accepted: " in at
        assert case != "a column lacks" or (f"Dr {OWN}.csv" in at and "'second'" in at)


def test_a_path_that_was_asked_for_all_the_same_leaves_without_its_folder(tmp_path: Path) -> None:
    told = Outward(tmp_path)(errors.DataError("", told=f"{tmp_path}/{OWN}/1.png isn't an image"))
    assert OWN not in told
