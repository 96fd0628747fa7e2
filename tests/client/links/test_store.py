"""Links at a hospital: kept without a name, found again in other files, counted, forgotten."""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wardround.client.links import kept as kept_module
from wardround.client.links.forget import forget, note_forgotten
from wardround.client.links.helped import Helped, Total
from wardround.client.links.kept import Kept, Record
from wardround.client.links.store import LinkStore, Most
from wardround.common.errors import JointRefused, ProvisionError

ABOUT = Record(
    name="same-persons",
    study="ab12",
    run="same-persons-1",
    asked_by="ida",
    made="2026-11-30T12:00:00Z",
    parties=["lab", "north"],
    used_by=["stroke-*"],
    identifiers={"nhs_number": "nhs"},
)
SESSION = bytes(range(32))


class Log:
    """Lines of an audit log."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def append(self, event: str, **fields: Any) -> None:
        assert event == "link"
        self.lines.append(fields)


def found(rows: list[int], order: int = 7) -> dict[str, NDArray[Any]]:
    return {"rows": np.array(rows, np.int64), "order": np.full(32, order, np.uint8)}


def keys_of(names: str) -> list[bytes | None]:
    return [None if name == "-" else name.encode() for name in names]


@pytest.fixture
def store_in(tmp_path: Path) -> Callable[..., LinkStore]:
    def made(hospital: str = "north", about: Record = ABOUT, **more: Any) -> LinkStore:
        return LinkStore(tmp_path / hospital / "links", lambda: about, **more)

    return made


def test_all_parties_open_the_same_persons_in_the_same_order(
    store_in: Callable[..., LinkStore],
) -> None:
    north, lab = store_in(), store_in("lab")
    north.keep(SESSION, found([3, 0]), keys_of("ab-d"))  # d, a
    lab.keep(SESSION, found([1, 2]), keys_of("xda"))  # d, a
    one, other = (
        north.open("same-persons", "stroke-1", keys_of("ab-d")),
        lab.open("same-persons", "stroke-1", keys_of("xda")),
    )
    assert one.rows.tolist() == [3, 0] and other.rows.tolist() == [1, 2]
    assert one.rows.dtype == np.int64
    assert one.digest == other.digest and len(one.digest) == 32
    store_in("third").keep(SESSION, found([1, 2], order=8), keys_of("xda"))
    store_in("fourth").keep(bytes(32), found([1, 2]), keys_of("xda"))
    digests = {
        store_in(name).open("same-persons", "stroke-1", keys_of("xda")).digest
        for name in ("lab", "third", "fourth")
    }
    assert len(digests) == 3, "another order, or another run, is another link"


@settings(max_examples=30)  # each waits for the disk
@given(
    st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=40, unique=True).flatmap(
        lambda all_keys: st.tuples(
            st.just(all_keys),
            st.permutations(range(len(all_keys))),
            st.integers(1, len(all_keys)),
            st.lists(st.one_of(st.none(), st.binary(min_size=21, max_size=25)), max_size=10),
            st.randoms(use_true_random=False),
        )
    )
)
def test_a_link_is_found_again_in_a_file_in_another_order_and_with_other_rows(
    tmp_path_factory: pytest.TempPathFactory, drawn: Any
) -> None:
    persons, order, linked, others, random = drawn
    folder = tmp_path_factory.mktemp("links")
    kept = Kept(folder)
    record = kept.write(ABOUT, [persons[row] for row in order[:linked]])
    now: list[bytes | None] = [*persons, *others]
    random.shuffle(now)
    places = kept.places(record, now)
    assert [now[place] for place in places] == [persons[row] for row in order[:linked]]
    shutil.rmtree(folder)


def test_what_is_on_the_disk_is_keyed_for_its_owner_only_and_says_no_name(
    tmp_path: Path, store_in: Callable[..., LinkStore]
) -> None:
    secret = b"9434765919\x1fsmith"
    store_in().keep(SESSION, found([0]), [secret])
    folder = tmp_path / "north" / "links"
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert secret not in path.read_bytes() and b"smith" not in path.read_bytes()
        assert hashlib.sha256(secret).digest()[:16] not in path.read_bytes()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (rows,) = folder.glob("*.rows")
    key = (folder / "key").read_bytes()
    assert rows.read_bytes() == hmac.digest(key, b"row\x1f" + secret, hashlib.sha256)[:16]
    other = tmp_path / "other" / "links"
    store_in("other").keep(SESSION, found([0]), [secret])
    assert next(other.glob("*.rows")).read_bytes() != rows.read_bytes(), "a key of its own"


def test_a_person_who_is_gone_ends_the_use_and_nobody_is_told_how_many(
    store_in: Callable[..., LinkStore], caplog: pytest.LogCaptureFixture
) -> None:
    store = store_in()
    store.keep(SESSION, found([0, 1, 2]), keys_of("abc"))
    with pytest.raises(JointRefused, match="no row at this hospital any more; link anew") as error:
        store.open("same-persons", "stroke-1", keys_of("bxy"))
    assert not any(sign.isdigit() for sign in str(error.value))
    assert "2 of its 3 persons" in caplog.text
    with pytest.raises(JointRefused, match="no row at this hospital"):
        store.open("same-persons", "stroke-1", keys_of("---"))


def test_only_studies_that_the_linkage_named_use_a_link(
    store_in: Callable[..., LinkStore],
) -> None:
    store = store_in()
    with pytest.raises(JointRefused, match="no link 'same-persons'.*run the linkage first"):
        store.open("same-persons", "stroke-1", keys_of("a"))
    store.keep(SESSION, found([0]), keys_of("a"))
    with pytest.raises(JointRefused, match="not for a study called 'heart'.*procedure.used_by"):
        store.open("same-persons", "heart", keys_of("a"))
    alone = store_in("lab", replace(ABOUT, used_by=[]))
    alone.keep(SESSION, found([0]), keys_of("a"))
    assert alone.open("same-persons", "same-persons", keys_of("a")).rows.tolist() == [0]
    with pytest.raises(JointRefused):
        alone.open("same-persons", "stroke-1", keys_of("a"))


def test_a_link_of_fewer_persons_than_the_rules_allow_by_now_is_not_used(
    store_in: Callable[..., LinkStore],
) -> None:
    store_in().keep(SESSION, found([0, 1]), keys_of("ab"))
    asked = ("same-persons", "stroke-1", keys_of("ab"))
    assert len(store_in(most=Most(fewest=2)).open(*asked).rows) == 2
    with pytest.raises(JointRefused, match="fewer persons than .* smallest_link and min_persons"):
        store_in(most=Most(fewest=3)).open(*asked)


def test_rows_without_identifiers_or_of_one_person_are_never_kept(
    store_in: Callable[..., LinkStore],
) -> None:
    for names, rows in (("a-", [0, 1]), ("aa", [0, 1])):
        with pytest.raises(JointRefused, match="can't be linked"):
            store_in().keep(SESSION, found(rows), keys_of(names))
    with pytest.raises(JointRefused, match="no link"):
        store_in().open("same-persons", "stroke-1", keys_of("a-"))


@pytest.mark.parametrize("at", [0, 1, 2])
def test_after_a_crash_there_is_the_old_link_or_the_new_one(
    tmp_path: Path,
    store_in: Callable[..., LinkStore],
    monkeypatch: pytest.MonkeyPatch,
    at: int,
) -> None:
    """A process that dies between two writes: none of the later ones happens."""
    store, write, writes = store_in(), kept_module.write_private, list[Path]()
    store.keep(SESSION, found([0]), keys_of("abc"))

    def dies(path: Path, data: bytes) -> None:
        if len(writes) == at:
            raise KeyboardInterrupt
        writes.append(path)
        write(path, data)

    monkeypatch.setattr(kept_module, "write_private", dies)
    if at < 2:
        with pytest.raises(KeyboardInterrupt):
            store.keep(bytes(32), found([1, 2]), keys_of("abc"))
    else:
        store.keep(bytes(32), found([1, 2]), keys_of("abc"))
    monkeypatch.undo()
    opened = store_in().open("same-persons", "stroke-1", keys_of("abc")).rows.tolist()
    assert opened == ([1, 2] if at == 2 else [0])
    store_in().keep(SESSION, found([2]), keys_of("abc"))
    assert len(list((tmp_path / "north" / "links").glob("*.rows"))) == 1, "nothing is left over"


@pytest.mark.parametrize("what", ["rows", "record", "key", "newer"])
def test_damage_is_told_to_others_without_a_path(
    tmp_path: Path,
    store_in: Callable[..., LinkStore],
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    store_in().keep(SESSION, found([0]), keys_of("a"))
    folder = tmp_path / "north" / "links"
    (rows,), (record,) = folder.glob("*.rows"), folder.glob("*.json")
    match what:
        case "rows":
            rows.write_bytes(bytes(16))
        case "record":
            record.write_text("{")
        case "key":
            (folder / "key").unlink()
        case "newer":
            record.write_text(record.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(JointRefused) as error:
        store_in().open("same-persons", "stroke-1", keys_of("a"))
    assert str(error.value) == (
        "this hospital can't read its link 'same-persons'; its own log says why"
    )
    assert str(folder) in caplog.text
    if what == "newer":
        assert "version 9" in caplog.text


def test_help_is_counted_for_each_party_over_all_runs_and_ends_at_the_limit(
    tmp_path: Path, store_in: Callable[..., LinkStore], caplog: pytest.LogCaptureFixture
) -> None:
    log = Log()
    most = Most(linkages=2, ids=250)
    store = store_in(most=most, audit=log)
    store.helps(SESSION, 1, {"lab": 100})
    store.helps(SESSION, 1, {"lab": 100})  # killed, and made again
    helped = Helped(tmp_path / "north" / "links")
    assert helped.total("lab") == Total(1, 100) and helped.parties() == ["lab"]
    store.helps(SESSION, 2, {"lab": 50, "south": 9})
    assert helped.total("lab") == Total(1, 150) and helped.total("south") == Total(1, 9)
    assert helped.total("lab", run=ABOUT.run) == Total(0, 0)
    with pytest.raises(
        JointRefused, match="no more help with identifiers of 'lab'.*max_linked_ids"
    ):
        store.helps(SESSION, 3, {"lab": 101, "south": 1})
    assert "max_linked_ids = 250: 150 were counted for 'lab'" in caplog.text
    assert helped.total("south") == Total(1, 9), "refused as a whole"
    store.helps(bytes(32), 1, {"lab": 100})
    with pytest.raises(JointRefused, match="max_linkages"):
        store.helps(bytes(31) + b"1", 1, {"lab": 0})
    store.helps(bytes(31) + b"1", 1, {"south": 1})
    assert [one["asked"] for one in log.lines] == [
        {"lab": 100},
        {"lab": 50, "south": 9},
        {"lab": 100},
        {"south": 1},
    ]


def test_a_count_that_is_damaged_ends_all_help(
    tmp_path: Path, store_in: Callable[..., LinkStore]
) -> None:
    store_in().helps(SESSION, 1, {"lab": 1})
    (tmp_path / "north" / "links" / "helped.json").write_text("{}")
    with pytest.raises(JointRefused, match="can't count what it helps with"):
        store_in().helps(SESSION, 1, {"lab": 1})


def test_a_link_that_is_forgotten_is_gone_and_stands_in_the_audit_log(
    tmp_path: Path, store_in: Callable[..., LinkStore]
) -> None:
    log, folder = Log(), tmp_path / "north" / "links"
    store = store_in(audit=log)
    assert forget(folder, "same-persons", "eve", "now") is None
    store.keep(SESSION, found([0]), keys_of("a"))
    store.open("same-persons", "stroke-1", keys_of("a"))
    gone = forget(folder, "same-persons", "eve", "now")
    assert gone is not None and gone.persons == 1
    assert not list(folder.glob("*.rows"))
    with pytest.raises(JointRefused, match="or is forgotten"):
        store.open("same-persons", "stroke-1", keys_of("a"))
    os.replace(folder / "forgotten.jsonl", folder / "forgotten.noting")  # and it died here
    assert note_forgotten(folder, log) == 1 and note_forgotten(folder, log) == 0
    assert [one["what"] for one in log.lines] == ["kept", "used", "forgotten"]
    assert log.lines[2]["who"] == "eve" and log.lines[2]["digest"] == log.lines[0]["digest"]


def test_records_say_what_a_link_is(tmp_path: Path, store_in: Callable[..., LinkStore]) -> None:
    store_in().keep(SESSION, found([1, 0]), keys_of("ab"))
    store_in().helps(SESSION, 0, {"lab": 1})
    store_in(about=replace(ABOUT, name="../other")).keep(SESSION, found([1]), keys_of("ab"))
    kept = Kept(tmp_path / "north" / "links")
    one, other = kept.records()
    assert (one.name, one.persons) == ("../other", 1) and one.digest != other.digest
    assert replace(other, persons=0, digest="", rows="") == ABOUT and other.persons == 2
    assert kept.remove("nobody") is None
    with pytest.raises(ProvisionError, match=r"helped.*"):
        (kept.folder / "helped.json").write_text("[")
        Helped(kept.folder).total("lab")


def test_a_step_that_is_made_again_with_fewer_counts_as_the_larger_one(tmp_path: Path) -> None:
    helped = Helped(tmp_path)
    assert helped.note("aa", "run", 1, {"lab": 5, "ward": 2})
    assert not helped.note("aa", "run", 1, {"lab": 3})
    assert helped.note("aa", "run", 1, {"lab": 3, "ward": 4})
    assert (helped.total("lab"), helped.total("ward")) == (Total(1, 5), Total(1, 4))
