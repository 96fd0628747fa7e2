"""A ledger that several kits share: what adds up for whom, many processes, older files."""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.privacy.test_ledger import DELTA, entry
from wardround.client.privacy.entries import Limit
from wardround.client.privacy.ledger import Ledger
from wardround.client.privacy.pseudonyms import (
    SIZE,
    key_path,
    normal_identifier,
    patterns,
    pseudonyms,
)
from wardround.common.errors import PrivacyRefused
from wardround.common.privacy.accounting import Release, epsilon
from wardround.common.tasks.data.row_keys import identifier_digest as digest

EACH = Limit(math.inf, DELTA, "patient", each_patient=True)
ALL = Limit(math.inf, DELTA, "patient")


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger.create(tmp_path / "ledger.sqlite", "north") as opened:
        yield opened


def one(noise: float, number: int = 0, federation: str = "heart"):
    return replace(entry(number, Release(noise)), federation=federation)


def gaussian(*noises: float) -> float:
    """Gaussians of mu = 1/z compose to one of sqrt(sum of mu^2) (Dong, Roth, Su 2022)."""
    return epsilon([Release(sum(z**-2 for z in noises) ** -0.5)], DELTA)


# --- what adds up ---------------------------------------------------------------------------------
def test_two_federations_spend_one_limit_once(ledger: Ledger) -> None:
    """The issue's own case: each is within 1.0, and both together are not."""
    limit = Limit(1.0, DELTA, "patient")
    noise = 4.0
    assert gaussian(noise) < 1.0 < gaussian(noise, noise)
    assert ledger.spend(one(noise, 0, "heart"), limit) == pytest.approx(gaussian(noise), rel=1e-9)
    with pytest.raises(PrivacyRefused, match=r"its limit is 1; 0.\d+ is spent, 0.\d+ remains"):
        ledger.spend(one(noise, 1, "lungs"), limit)
    assert len(ledger.entries()) == 1


def test_the_stricter_of_two_kits_limits_stops_only_itself(ledger: Ledger) -> None:
    ledger.spend(one(4.0), Limit(2.0, DELTA, "patient"))
    with pytest.raises(PrivacyRefused):
        ledger.spend(one(4.0, 1), Limit(1.0, DELTA, "patient"))
    assert ledger.spend(one(4.0, 2), Limit(2.0, DELTA, "patient")) == pytest.approx(
        gaussian(4.0, 4.0), rel=1e-9
    )


def test_by_patient_the_worst_ones_sum_counts(ledger: Ledger) -> None:
    ledger.spend(one(4.0, 0, "heart"), EACH, ["a", "b"])
    ledger.spend(one(5.0, 1, "lungs"), EACH, ["c", "d"])
    assert ledger.worst(DELTA, "patient") == pytest.approx(gaussian(4.0), rel=1e-9)
    after = ledger.spend(one(6.0, 2, "skin"), EACH, ["d", "e"])
    assert after == pytest.approx(gaussian(5.0, 6.0), rel=1e-9), "of those whom it touches"
    everybody = gaussian(4.0, 5.0, 6.0)
    assert ledger.spent(DELTA, "patient") == pytest.approx(everybody, rel=1e-9)
    ledger.spend(one(7.0, 3, "eyes"), EACH, None)
    assert ledger.worst(DELTA, "patient") == pytest.approx(
        max(gaussian(4.0, 7.0), gaussian(5.0, 6.0, 7.0)), rel=1e-9
    ), "what names nobody counts for everybody"


def test_by_patient_a_limit_stops_who_has_spent_it_and_nobody_else(ledger: Ledger) -> None:
    limit = Limit(1.0, DELTA, "patient", each_patient=True)
    ledger.spend(one(4.0, 0), limit, ["a", "b"])
    ledger.spend(one(4.0, 1), limit, ["c"])
    with pytest.raises(PrivacyRefused) as refused:
        ledger.spend(one(4.0, 2), limit, ["b", "x"])
    assert "spent" not in str(refused.value), "how much one has spent elsewhere isn't told"
    with pytest.raises(PrivacyRefused):
        ledger.spend(one(4.0, 3), limit, None)
    with pytest.raises(PrivacyRefused, match="0 remains|remains"):
        ledger.spend(one(4.0, 4), replace(limit, each_patient=False), ["x"])
    assert len(ledger.entries()) == 2


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.none() | st.sets(st.integers(0, 5), min_size=1), st.integers(3, 9)),
        min_size=1,
        max_size=5,
    )
)
def test_the_worst_patients_sum_is_the_one_counted_by_hand(tmp_path_factory, studies) -> None:
    path = tmp_path_factory.mktemp("worst") / "ledger.sqlite"
    with Ledger.create(path, "north", durable=False) as ledger:
        for number, (who, noise) in enumerate(studies):
            ledger.spend(one(float(noise), number), EACH, map(str, who) if who else None)
        by_hand = max(
            gaussian(*noises)
            for patient in range(7)  # 6 is in no study
            if (noises := [z for who, z in studies if who is None or patient in who])
        )
        assert ledger.worst(DELTA, "patient") == pytest.approx(by_hand, rel=1e-9)
        assert ledger.worst(DELTA, "patient") <= ledger.spent(DELTA, "patient")


# --- pseudonyms -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("0012", "12"),
        (" AB-1", "ab1"),
        ("7.0", "7"),
        ("ß", "SS"),
        ("\uff11\uff12", "12"),
        ("0", "00"),
    ],
)
def test_differences_of_form_are_none(text: str, same: str) -> None:
    assert normal_identifier(text) == normal_identifier(same)


def test_different_identifiers_stay_so() -> None:
    assert len({normal_identifier(x) for x in ("12", "120", "21", "1a2", "12.5")}) == 5


def test_pseudonyms_are_keyed_sorted_and_once() -> None:
    key, other = bytes(32), bytes(31) + b"\1"
    found = pseudonyms(key, ["b", "a", "A "])
    assert found == b"".join(sorted(each(found)))
    assert len(each(found)) == 5, "'A' has the form of 'a', and a digest of its own"
    assert not each(found) & each(pseudonyms(other, ["a", "b"]))


def each(members: bytes) -> set[bytes]:
    return {members[at : at + SIZE] for at in range(0, len(members), SIZE)}


def test_a_patient_of_images_is_the_one_of_the_table() -> None:
    """Images know a patient by a digest of the identifier."""
    in_images = each(pseudonyms(bytes(32), [digest("4711")]))
    assert in_images & each(pseudonyms(bytes(32), ["4711"]))
    assert not in_images & each(pseudonyms(bytes(32), ["4712"]))


def test_patterns_name_each_combination_once() -> None:
    a, b, c = (bytes([x]) + bytes(15) for x in (1, 2, 3))
    assert patterns([a + b, b + c]).tolist() == [
        [False, False],
        [False, True],
        [True, False],
        [True, True],
    ]
    assert patterns([a + b, b + c], a).tolist() == [[True, False]]
    assert patterns([], a).shape == (1, 0)


def test_the_key_is_made_once_is_private_and_is_missed(ledger: Ledger) -> None:
    ledger.spend(one(4.0), ALL)
    path = key_path(ledger.path)
    assert not path.exists(), "nobody's pseudonym is kept where limits don't ask for it"
    ledger.spend(one(4.0, 1), EACH, ["a"])
    key = path.read_bytes()
    assert len(key) == 32 and stat.S_IMODE(path.stat().st_mode) == 0o600
    ledger.spend(one(4.0, 2), EACH, ["a"])
    assert path.read_bytes() == key
    for content in (None, bytes(32), b"short"):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
            path.chmod(0o600)
        with pytest.raises(PrivacyRefused, match="ledger_units = 'all'"):
            ledger.spend(one(4.0, 3), EACH, ["a"])
    ledger.spend(one(4.0, 4), ALL)  # as the refusal says


def test_no_identifier_and_no_key_lies_in_the_ledger(ledger: Ledger) -> None:
    ledger.spend(one(4.0), EACH, ["PATIENT-4711-of-north"])
    key = key_path(ledger.path).read_bytes()
    ledger.close()
    for path in ledger.path.parent.iterdir():
        data = path.read_bytes()
        if path != key_path(ledger.path):
            assert key not in data and key.hex().encode() not in data
            assert b"4711-of" not in data


def test_a_set_that_was_changed_is_damage_and_one_that_is_lost_counts_for_everybody(
    ledger: Ledger,
) -> None:
    ledger.spend(one(4.0, 0), EACH, ["a"])
    ledger.spend(one(5.0, 1), EACH, ["b"])
    with sqlite3.connect(ledger.path) as edit:
        edit.execute("DELETE FROM sets WHERE digest = ?", (ledger.entries()[0].units,))
    assert ledger.worst(DELTA, "patient") == pytest.approx(gaussian(4.0, 5.0), rel=1e-9)
    with sqlite3.connect(ledger.path) as edit:
        edit.execute("UPDATE sets SET pseudonyms = x'00'")
    edit.close()
    with pytest.raises(PrivacyRefused, match="isn't what was written"):
        ledger.worst(DELTA, "patient")


# --- several processes ----------------------------------------------------------------------------
SPEND = """
import sys
from wardround.client.privacy.entries import Limit
from wardround.client.privacy.ledger import Ledger
from wardround.common.errors import PrivacyRefused
from tests.client.privacy.test_shared_ledger import DELTA, one
limit = Limit(1.0, DELTA, "patient")
with Ledger.open(sys.argv[1], "north") as ledger:
    print("open", flush=True)
    sys.stdin.readline()
    for number in range(40):
        try:
            ledger.spend(one(12.0, number, sys.argv[2]), limit)
        except PrivacyRefused as error:
            assert "its limit is 1" in str(error), error
            break
"""


def test_processes_that_spend_at_once_never_pass_one_limit(ledger: Ledger) -> None:
    most = max(n for n in range(1, 40) if gaussian(*[12.0] * n) <= 1.0)
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", SPEND, str(ledger.path)]
    running = [
        subprocess.Popen(
            [*command, name], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("heart", "skin")
    ]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
    for process in running:
        process.communicate("go\n", timeout=120)
    assert [process.returncode for process in running] == [0, 0]
    found = [(one.federation, one.round) for one in ledger.entries()]
    assert len(found) == most > 3
    for name, _ in found:  # nobody's spending is lost
        numbers = [number for by, number in found if by == name]
        assert numbers == list(range(len(numbers)))
    assert ledger.spent(DELTA, "patient") <= 1.0


# --- who uses it ----------------------------------------------------------------------------------
def test_kits_join_under_their_own_names_and_nobody_else_opens_it(ledger: Ledger) -> None:
    ledger.join("north", "heart")
    ledger.join("st-mary", "lungs")
    ledger.join("st-mary", "lungs")
    assert ledger.kits() == [("north", ""), ("north", "heart"), ("st-mary", "lungs")]
    Ledger.open(ledger.path, "st-mary").close()
    with pytest.raises(PrivacyRefused, match="ledger of north, st-mary, not of south"):
        Ledger.open(ledger.path, "south")


# --- older files ----------------------------------------------------------------------------------
def version_1(path: Path, spent: list[dict[str, object]]) -> None:
    """A ledger as wardround wrote it before kits could share one."""
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE rows (number INTEGER PRIMARY KEY, body TEXT NOT NULL, hash TEXT NOT NULL)"
    )
    connection.execute(f"PRAGMA application_id = {0x57524C47}")
    connection.execute("PRAGMA user_version = 1")
    before, row = "", {}
    start = {"kind": "start", "hospital": "north", "id": "00" * 16}
    for number, content in enumerate([start, *spent], 1):
        body = json.dumps(content, sort_keys=True)
        before = hashlib.sha256(f"{before}\n{number}\n{body}".encode()).hexdigest()
        row = {"number": number, "hash": before, "body": body}
        connection.execute("INSERT INTO rows VALUES (?, ?, ?)", (number, body, before))
    connection.commit()
    connection.close()
    path.with_name(path.name + ".head").write_text(json.dumps(row))


OLD = {
    "kind": "entry",
    "federation": "heart",
    "run": "r1",
    "round": 1,
    "attempt": 0,
    "request": "00" * 32,
    "mechanism": "dp-sgd, own noise",
    "unit": "patient",
    "clipping_norm": 1.0,
    "releases": [{"noise_multiplier": 4.0, "sampling_rate": 1.0, "steps": 1}],
    "simulated": False,
    "time": 1.75e9,
}


def version(path: Path) -> int:
    connection = sqlite3.connect(path)
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return int(found)


def test_a_ledger_of_an_older_wardround_is_read_counted_and_brought_up_when_it_grows(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.sqlite"
    version_1(path, [OLD])
    with Ledger.open(path, "north") as ledger:
        assert ledger.spent(DELTA, "patient") == pytest.approx(gaussian(4.0), rel=1e-9)
        assert ledger.worst(DELTA, "patient") == ledger.spent(DELTA, "patient")
        assert version(path) == 1, "looking changes nothing"
        with pytest.raises(PrivacyRefused):
            ledger.spend(one(4.0, 1), Limit(1.0, DELTA, "patient"))
        ledger.spend(one(5.0, 2), EACH, ["a"])
    assert version(path) == 3
    with Ledger.open(path, "north") as ledger:
        assert [x.round for x in ledger.entries()] == [1, 2]
        assert ledger.worst(DELTA, "patient") == pytest.approx(gaussian(4.0, 5.0), rel=1e-9)


# --- what a person adds again ---------------------------------------------------------------------
def test_what_was_lost_is_added_once_and_counts_for_everybody(ledger: Ledger) -> None:
    ledger.spend(one(4.0, 0), EACH, ["a"])
    (kept,) = ledger.entries()
    lost = replace(one(5.0, 1), time=1.75e9)
    assert ledger.mend([kept, lost, lost.bare()], "the disk failed") == 1
    assert ledger.mend([kept, lost], "again") == 0
    assert ledger.worst(DELTA, "patient") == pytest.approx(gaussian(4.0, 5.0), rel=1e-9)
