"""Files on their way into a folder: whole or not at all, and only what is listed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import ResultsRefused
from wardround.common.results import staging as module
from wardround.common.results.package import FILES, Package, listed, verify_folder
from wardround.common.results.pieces import Piece, pieces, take
from wardround.common.results.staging import Expected, Staging
from wardround.common.trust.identity import Identity

SERVER = Identity.from_bytes(bytes(range(32)))
CONTENT = {"model/m": bytes(range(256)) * 5, "model/p": b"totals", "plan.json": b"{}", "zero": b""}
EXPECTED = Expected(SERVER.public, "net", "", "run-1", 10_000)


def written(folder: Path, content: dict[str, bytes] = CONTENT, run: str = "run-1") -> Package:
    """A package's folder, as a server has it."""
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    files = tuple(listed(folder, name) for name in sorted(content))
    package = Package(network="net", study="", run=run, round=1, files=files)
    (folder / FILES).write_bytes(package.signed(SERVER))
    return package


def found(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module", autouse=True)
def nothing_reaches_the_disk() -> Iterator[None]:
    """No power is cut here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


class Ways(NamedTuple):
    source: Path
    target: Path
    package: Package

    def pieces(self, size: int = 500) -> list[Piece]:
        return list(pieces(self.source, self.package, size))


@pytest.fixture
def ways(tmp_path: Path) -> Ways:
    return Ways(tmp_path / "there", tmp_path / "here" / "run-1", written(tmp_path / "there"))


def put(staging: Staging, piece: Piece) -> None:
    if piece.name == FILES:
        staging.begin(piece.data)
    else:
        staging.put(*piece)


@settings(max_examples=10)
@given(st.integers(200, 1500), st.lists(st.integers(0, 12), max_size=3))
def test_after_any_breaks_and_repeats_the_folder_is_what_was_sent(
    size: int, tries: list[int]
) -> None:
    """Each try sends so many pieces, and is broken off; the last one sends all."""
    with TemporaryDirectory() as place:
        source, target = Path(place) / "there", Path(place) / "here" / "run-1"
        coming = list(pieces(source, written(source), size))
        for reached in [*tries, len(coming)]:
            staging = Staging(target, EXPECTED)  # of another process
            for piece in coming[:reached]:
                put(staging, piece)
            assert not target.exists()
        staging.finish()
        assert found(target) == found(source)
        assert [path.name for path in target.parent.iterdir()] == ["run-1"]
        put(staging, coming[-1])  # the answer was lost, and it is sent again
        staging.begin(coming[0].data)
        assert staging.finish() == verify_folder(target, SERVER.public)


def test_a_researcher_takes_them_at_once(ways: Ways) -> None:
    assert take(ways.pieces(), ways.target, EXPECTED) == ways.package
    assert found(ways.target) == found(ways.source)
    with pytest.raises(ResultsRefused, match="'plan.json' was altered"):
        (ways.target / "plan.json").write_bytes(b"[]")
        verify_folder(ways.target, SERVER.public)
    (ways.target / "plan.json").unlink()
    with pytest.raises(ResultsRefused, match="'plan.json' is missing"):
        verify_folder(ways.target, SERVER.public)


def test_what_isnt_listed_or_too_much_or_altered_is_not_taken(ways: Ways) -> None:
    head, *rest = ways.pieces()
    staging = Staging(ways.target, EXPECTED)
    with pytest.raises(ResultsRefused, match="before their signed list"):
        staging.put(*rest[0])
    staging.begin(head.data)
    for piece, why in (
        (Piece("evil.html", 0, b"x"), "not in the signed list"),
        (Piece("../evil", 0, b"x"), "not in the signed list"),
        (Piece("plan.json", 0, b"{}}"), "is to have 2 bytes, and more came"),
        (Piece("plan.json", 1, b"}"), "has 0 bytes here, and byte 1 came next"),
        (Piece("plan.json", 0, b"[]"), "hasn't the digest"),
    ):
        with pytest.raises(ResultsRefused, match=why):
            staging.put(*piece)
    with pytest.raises(ResultsRefused, match="'model/m' has not come"):
        staging.finish()
    assert not ways.target.exists() and not list(ways.target.parent.glob("evil*"))
    for piece in rest:  # an honest one afterwards
        staging.put(*piece)
    staging.finish()
    assert found(ways.target) == found(ways.source)


def test_another_runs_another_servers_or_too_large_a_list_is_refused(ways: Ways) -> None:
    signed = (ways.source / FILES).read_bytes()
    for changed, why in (
        ({"run": "run-2"}, "of run 'run-1', not of 'run-2'"),
        ({"study": "ab" * 32}, "of run"),
        ({"network": "other"}, "of run"),
        ({"server": Identity.generate().public}, "isn't signed"),
        ({"most_bytes": 1000}, "have 1288 bytes, and at most 1000"),
    ):
        values: dict[str, Any] = {**vars(EXPECTED), **changed}
        with pytest.raises(ResultsRefused, match=why):
            Staging(ways.target, Expected(**values)).begin(signed)
    assert not ways.target.parent.exists()


def test_another_list_begins_anew_and_one_after_the_end_is_refused(ways: Ways) -> None:
    other = ways.source.parent / "other"
    second = written(other, {**CONTENT, "plan.json": b"[]"})
    staging = Staging(ways.target, EXPECTED)
    for piece in ways.pieces()[:4]:
        put(staging, piece)
    assert take(pieces(other, second, 400), ways.target, EXPECTED) == second
    assert found(ways.target) == found(other)
    with pytest.raises(ResultsRefused, match="other results of this run lie here already"):
        staging.begin((ways.source / FILES).read_bytes())
    assert found(ways.target) == found(other)


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("call", "times"), [("fsync", 6), ("replace", 5), ("rename", 1)])
def test_a_full_disk_leaves_nothing_half_and_is_gone_on_with(
    ways: Ways, monkeypatch: pytest.MonkeyPatch, call: str, times: int
) -> None:
    for failing in range(times):
        target = ways.target.with_name(f"run-1-{failing}")
        staging, real, left = Staging(target, EXPECTED), getattr(os, call), [failing]

        def now_and_then(
            *given: Any, real: Callable[..., Any] = real, left: list[int] = left
        ) -> Any:
            left[0] -= 1
            return real(*given) if left[0] != -1 else full()

        monkeypatch.setattr(os, call, now_and_then)
        with pytest.raises(ResultsRefused, match="No space left on device") as told:
            for piece in ways.pieces():
                put(staging, piece)
            staging.finish()
        assert not target.exists() and str(target.parent) not in str(told.value)
        monkeypatch.setattr(os, call, real)
        take(ways.pieces(), target, EXPECTED)
        assert found(target) == found(ways.source)


def test_results_that_have_no_room_are_not_begun(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=module.SPARE_BYTES + 1287)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ResultsRefused, match="no room for 1288 bytes"):
        take(ways.pieces(), ways.target, EXPECTED)
    assert not ways.target.parent.exists()


def test_a_hospitals_files_are_its_owners_only(ways: Ways) -> None:
    staging = Staging(ways.target, EXPECTED, private=True)
    for piece in ways.pieces():
        put(staging, piece)
    staging.finish()
    modes = {path.stat().st_mode & 0o077 for path in ways.target.rglob("*")}
    assert modes == {0} and ways.target.stat().st_mode & 0o077 == 0


def test_a_file_that_is_cut_at_the_server_is_not_sent_as_whole(ways: Ways) -> None:
    (ways.source / "model/m").write_bytes(b"short")
    with pytest.raises(ResultsRefused, match="'model/m' was altered"):
        ways.pieces()
