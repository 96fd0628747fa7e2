"""The ledger: what it adds up, what it refuses, and what no crash or hand can take from it."""

from __future__ import annotations

import errno
import math
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.client.privacy import chained
from wardround.client.privacy.ledger import Entry, Ledger, Limit, hospital_of
from wardround.client.privacy.ledger_files import failed
from wardround.common.errors import PrivacyRefused
from wardround.common.privacy.accounting import Release, epsilon

DELTA = 1e-5
LIMIT = Limit(3.0, DELTA, "patient")
STEP = Release(1.0, 0.01, 100)
WIDE = Limit(math.inf, DELTA, "example")


def entry(number: int = 0, *releases: Release, unit: str = "patient", run: str = "r1") -> Entry:
    return Entry(
        federation="heart",
        run=run,
        round=number,
        attempt=0,
        request=f"{number:064x}",
        mechanism="dp-sgd, own noise",
        unit=unit,
        clipping_norm=1.0,
        releases=releases or (STEP,),
        simulated=False,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hospital" / "ledger.sqlite"


def spend(path: Path, *numbers: int) -> None:
    with Ledger.open(path, "north") as ledger:
        for number in numbers:
            ledger.spend(entry(number), LIMIT)


def used(path: Path, rounds: int = 3) -> Path:
    Ledger.create(path, "north").close()
    spend(path, *range(rounds))
    return path


def rounds(path: Path) -> list[int]:
    with Ledger.open(path, "north") as ledger:
        return [one.round for one in ledger.entries()]


def head(path: Path) -> Path:
    return path.with_name(path.name + ".head")


def edit(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def refused(path: Path, hospital: str = "north") -> str:
    with pytest.raises(PrivacyRefused) as caught:
        Ledger.open(path, hospital).close()
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


# --- what it adds up ------------------------------------------------------------------------------
def test_it_keeps_what_was_spent_and_composes_all_of_it(path: Path) -> None:
    with Ledger.create(path, "north") as ledger:
        assert ledger.spent(DELTA, "patient") == 0 and ledger.entries() == []
        first = ledger.spend(entry(0), LIMIT)
        both = ledger.spend(entry(1, STEP, Release(20.0), run="r2"), LIMIT)
        assert ledger.check(entry(9), LIMIT) > both
        assert len(ledger.entries()) == 2, "a check changes nothing"
    assert first == epsilon([STEP], DELTA)
    assert both == epsilon([STEP, STEP, Release(20.0)], DELTA)
    with Ledger.open(path, "north") as ledger:
        assert ledger.spent(DELTA, "patient") == both
        assert ledger.spent(DELTA, "patient", "heart", "r1") == first
        assert ledger.spent(DELTA, "patient", "lungs") == 0
        one, two = ledger.entries()
        assert replace(one, time=0.0) == entry(0) and one.time > 1.7e9
        assert ledger.find(two.request) == two and ledger.find("00") is None
    assert hospital_of(path) == "north"


@settings(max_examples=5, deadline=None)
@given(st.permutations([(1.0, 0.01, 50), (2.0, 0.1, 10), (1.0, 0.01, 7), (9.0, 1.0, 1)]))
def test_the_order_of_spending_makes_no_difference(tmp_path_factory, parts) -> None:
    path = tmp_path_factory.mktemp("order") / "ledger.sqlite"
    releases = [Release(*part) for part in parts]
    with Ledger.create(path, "north") as ledger:
        for number, release in enumerate(releases):
            ledger.spend(entry(number, release), WIDE)
        assert ledger.spent(DELTA, "patient") == epsilon(sorted(releases, key=str), DELTA)


def test_the_limit_holds_and_says_what_is_left(path: Path) -> None:
    small = Limit(0.95, DELTA, "patient")
    with Ledger.create(path, "north") as ledger:
        spent = ledger.spend(entry(0), small)
        with pytest.raises(PrivacyRefused) as caught:
            ledger.spend(entry(1, Release(1.0, 0.01, 1000)), small)
        after = epsilon([Release(1.0, 0.01, 1100)], DELTA)
        assert str(caught.value) == (
            f"north refuses: epsilon would be {after:.4g} at delta 1e-05 per patient, its limit is "
            f"0.95; {spent:.4g} is spent, {0.95 - spent:.4g} remains"
        )
        with pytest.raises(PrivacyRefused, match="epsilon would be inf"):
            ledger.check(entry(9, Release(0.0)), small)
        assert len(ledger.entries()) == 1
        assert ledger.spend(entry(2, Release(50.0)), small) > spent, "a small one still fits"


def test_entries_count_for_finer_limits_and_void_coarser_ones(path: Path) -> None:
    with Ledger.create(path, "north") as ledger:
        ledger.spend(entry(0, Release(8.0), unit="hospital"), Limit(9, DELTA, "hospital"))
        assert ledger.spent(DELTA, "hospital") == epsilon([Release(8.0)], DELTA)
        assert ledger.spent(DELTA, "example") == epsilon([Release(4.0)], DELTA)
        ledger.spend(entry(1, unit="patient"), LIMIT)
        assert ledger.spent(DELTA, "hospital") == math.inf
        with pytest.raises(PrivacyRefused, match="only protect each patient"):
            ledger.check(entry(9, Release(8.0), unit="hospital"), Limit(9, DELTA, "hospital"))
        with pytest.raises(PrivacyRefused, match="only protect each example"):
            ledger.spend(entry(2, unit="example"), LIMIT)
        assert LIMIT.epsilon > ledger.spent(DELTA, "patient") > epsilon([STEP], DELTA)
    for wrong in (lambda: Limit(1, DELTA, "visit"), lambda: entry(0, unit="visit")):
        with pytest.raises(ValueError, match="'visit' must be one of"):
            wrong()


def test_facts_are_drawn_once(path: Path) -> None:
    with Ledger.create(path, "north") as ledger:
        assert ledger.recall("sizes") is None
        ledger.remember("sizes", "97 10 12")
        ledger.remember("sizes", "97 10 12")
        with pytest.raises(PrivacyRefused, match="already 97 10 12"):
            ledger.remember("sizes", "98 10 12")
    with Ledger.open(path, "north") as ledger:
        assert ledger.recall("sizes") == "97 10 12"
    edit(path, "UPDATE rows SET body = replace(body, '97', '96') WHERE number = 2")
    assert "row 2" in refused(path)


# --- files ----------------------------------------------------------------------------------------
def test_files_are_the_owners_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        used(path)
        with Ledger.open(path, "north"):
            files = list(path.parent.iterdir())
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        os.umask(before)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, head(path).name]


def test_it_is_made_once_and_never_by_opening(path: Path) -> None:
    assert "missing" in refused(path)
    assert not path.exists()
    used(path)
    with pytest.raises(PrivacyRefused, match="exists"):
        Ledger.create(path, "north")
    path.unlink()
    assert "missing" in refused(path)
    with pytest.raises(PrivacyRefused, match=r"sqlite\.head exists"):
        Ledger.create(path, "north")


def test_it_is_one_hospitals_own(path: Path) -> None:
    used(path)
    assert "ledger of north, not of south" in refused(path, "south")


def tamper(statement: str) -> Callable[[Path], None]:
    return lambda path: edit(path, statement)


@pytest.mark.parametrize(
    "harm",
    [
        tamper("UPDATE rows SET body = replace(body, '100', '1') WHERE number = 2"),
        tamper("UPDATE rows SET hash = 'ff' || substr(hash, 3) WHERE number = 3"),
        tamper("UPDATE rows SET number = 9 WHERE number = 4"),
        tamper("DELETE FROM rows WHERE number = 2"),
        tamper("DELETE FROM rows WHERE number >= 3"),
        tamper("DELETE FROM rows"),
        tamper("DROP TABLE rows"),
        tamper("PRAGMA application_id = 1"),
        tamper("PRAGMA user_version = 0"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(b"no database at all" * 300),
        lambda path: head(path).unlink(),
        lambda path: head(path).write_text(""),
        lambda path: head(path).write_text("[]"),
        lambda path: head(path).write_text(head(path).read_text().replace("100", "1")[:-9]),
    ],
)
def test_whatever_is_done_to_it_it_does_not_open(path: Path, harm: Callable[[Path], None]) -> None:
    used(path)
    harm(path)
    message = refused(path)
    assert "can't be trusted" in message and "backup" in message


def test_a_newer_ledger_is_left_to_the_wardround_that_wrote_it(path: Path) -> None:
    used(path)
    edit(path, "PRAGMA user_version = 9")
    message = refused(path)
    assert "has version 9" in message and "reads up to 3; install the version" in message


def test_the_last_row_comes_back_from_the_head(path: Path) -> None:
    used(path)
    edit(path, "DELETE FROM rows WHERE number = 4")
    assert rounds(path) == [0, 1, 2]


@pytest.mark.parametrize("which", ["ledger", "head"])
def test_one_file_from_an_older_backup_is_noticed(path: Path, which: str) -> None:
    used(path, 1)
    old = path if which == "ledger" else head(path)
    kept = old.read_bytes()
    spend(path, 1, 2)
    old.write_bytes(kept)
    refused(path)


# --- crashes --------------------------------------------------------------------------------------
POINTS = {
    "before the head": ("write_head", False),
    "after the head": ("write_head", True),
    "after the insert": ("insert_row", True),
}
CRASH = """
import os, sys
from wardround.client.privacy import chained, ledger
from tests_entry import entry, LIMIT
name, after = sys.argv[2], sys.argv[3] == "True"
real = getattr(chained, name)
def fatal(*arguments):
    if after:
        real(*arguments)
    os.kill(os.getpid(), 9)
setattr(chained, name, fatal)
opened = ledger.Ledger.open(sys.argv[1], "north")
opened.spend(entry(3), LIMIT)
"""


@pytest.mark.parametrize("point", POINTS)
def test_killed_between_the_writes_it_counts_at_least_the_truth(path: Path, point: str) -> None:
    used(path)
    name, after = POINTS[point]
    folder = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r})\n" + CRASH.replace(
        "tests_entry", Path(__file__).stem
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), name, str(after)], check=False)
    assert done.returncode == -9
    assert rounds(path) == ([0, 1, 2, 3] if after else [0, 1, 2])
    spend(path, 4)
    assert rounds(path)[-1] == 4


@pytest.mark.parametrize("name", ["write_head", "insert_row"])
def test_an_error_while_writing_leaves_a_usable_ledger(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    used(path)
    real = getattr(chained, name)

    def full(*arguments: object) -> None:
        if name == "insert_row":
            real(*arguments)
        raise OSError("no space left on device")

    with Ledger.open(path, "north") as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(chained, name, full)
            with pytest.raises(OSError, match="no space"):
                ledger.spend(entry(3), LIMIT)
        ledger.spend(entry(4), LIMIT)
        expected = [0, 1, 2, 4] if name == "write_head" else [0, 1, 2, 3, 4]
        assert [one.round for one in ledger.entries()] == expected
    assert rounds(path) == expected


def test_copies_taken_between_the_writes_open(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(path)
    copies: list[Path] = []

    def copying(real: Callable[..., None]) -> Callable[..., None]:
        def write(*arguments: object) -> None:
            for when in ("before", "after"):
                copies.append(tmp_path / f"{len(copies)}-{when}")
                shutil.copytree(path.parent, copies[-1])
                if when == "before":
                    real(*arguments)

        return write

    for name in ("write_head", "insert_row"):
        monkeypatch.setattr(chained, name, copying(getattr(chained, name)))
    with Ledger.open(path, "north") as ledger:
        ledger.spend(entry(3), LIMIT)
        copies.append(tmp_path / "done")
        shutil.copytree(path.parent, copies[-1])
    monkeypatch.undo()
    found = [rounds(copy / path.name)[-1] for copy in copies]
    assert found == [2, 3, 3, 3, 3]


def test_a_creation_that_was_cut_off_can_be_done_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wardround.client.privacy.ledger_files.os.rename", fail)
        with pytest.raises(KeyboardInterrupt):
            Ledger.create(path, "north")
    assert "missing" in refused(path)
    Ledger.create(path, "north").close()
    assert rounds(path) == []


# --- several at once ------------------------------------------------------------------------------
def test_two_that_are_open_see_each_others_spending(path: Path) -> None:
    used(path, 1)
    with Ledger.open(path, "north") as one, Ledger.open(path, "north") as two:
        limit = Limit(epsilon([replace(STEP, steps=200)], DELTA), DELTA, "patient")
        one.spend(entry(1), limit)
        assert two.find(entry(1).request) is not None
        with pytest.raises(PrivacyRefused, match="0 remains"):
            two.spend(entry(2), limit)
        two.remember("key", "value")
        assert one.recall("key") == "value"


def test_a_locked_ledger_is_named_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardround.client.privacy.ledger_files._BUSY_S", 0.05)
    used(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "another process holds" in refused(path)
    other.close()


def test_a_full_disk_is_no_damage_and_what_the_head_has_is_not_forgotten(path: Path) -> None:
    """Told to restore it from a backup, a hospital would lose what it has spent since."""
    used(path)
    with Ledger.open(path, "north") as ledger:
        full = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
        ledger._connection.execute(f"PRAGMA max_page_count = {full}")
        with pytest.raises(OSError, match="No space left on device.*ledger.sqlite"):
            for number in range(4, 40):
                ledger.spend(entry(number), WIDE)
        said = number
        ledger._connection.execute("PRAGMA max_page_count = 1000000")
        ledger.spend(entry(50), WIDE)
        found = {one.request for one in ledger.entries()}
    assert {entry(one).request for one in (4, said, 50)} <= found
    with Ledger.open(path, "north") as again:
        assert {one.request for one in again.entries()} == found


def test_a_ledger_that_a_full_disk_has_no_room_for_is_made_later(path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        connection = sqlite3.connect(":memory:")
        connection.execute("PRAGMA max_page_count = 1")
        connection.execute("CREATE TABLE rows (one)")  # SQLite's own word for it

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device"):
        patch.setattr("wardround.client.privacy.ledger_files.insert_row", full)
        Ledger.create(path, "north")
    assert not path.exists()
    used(path)


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (sqlite3.SQLITE_IOERR_WRITE, errno.EIO),
        (sqlite3.SQLITE_READONLY_DBMOVED, errno.EROFS),
        (sqlite3.SQLITE_FULL, errno.ENOSPC),
        (sqlite3.SQLITE_CORRUPT_INDEX, None),
    ],
)
def test_a_disks_failure_is_told_by_its_kind_however_sqlite_refines_it(
    path: Path, code: int, number: int | None
) -> None:
    """Its longer codes have the kind in their last eight bits."""
    error = sqlite3.OperationalError("said")
    error.sqlite_errorcode = code
    found = failed(path, error)
    assert getattr(found, "errno", None) == number
    assert isinstance(found, OSError if number else PrivacyRefused)


def test_a_file_system_that_is_only_read_is_told_so(path: Path, monkeypatch) -> None:
    used(path)

    class ReadOnly:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr("wardround.client.privacy.ledger_files.may_write", lambda *_, **__: False)
    assert "Permission denied" in refused(path) and "chmod" in refused(path)
    monkeypatch.setattr(os, "statvfs", lambda _: ReadOnly)
    assert "Read-only file system" in refused(path) and "chmod" not in refused(path)
