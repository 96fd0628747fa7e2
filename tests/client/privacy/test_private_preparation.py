"""A private preparation in a run: paid for before it leaves, in the order of a round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wardround.client.privacy.entries import Entry
from wardround.client.privacy.ledger import Ledger
from wardround.client.privacy.sums import PrivateSum
from wardround.common.errors import PrivacyRefused, WardroundError
from wardround.common.figures.sums import Sums
from wardround.common.privacy.budget import sum_release
from wardround.simulations import simulate

TEXT = """
[federation]
rounds = 2
[data]
path = "hospitals"
test_fraction = 0.2
validation_fraction = 0.0
[task]
name = "tabular"
missing = "median"
[task.columns]
target = "ill"
numeric = ["age", "crp"]
patient_id = "who"
[task.columns.expected]
age = { range = [0.0, 120.0] }
crp = { range = [0.0, 300.0] }
[privacy]
unit = "patient"
epsilon = 5.0
"""


def hospitals(folder: Path, given: bool = False) -> Path:
    (folder / "hospitals").mkdir(parents=True)
    generator = np.random.default_rng(5)
    for number, rows in enumerate((90, 240, 60)):
        lines = [
            f"{generator.integers(20, 90)},{generator.exponential(20 + 30 * number):.2f},"
            f"{row % 2},p{number}-{row // 3},{'test' if row % 9 > 5 else 'train'}"
            for row in range(rows)
        ]
        text = "age,crp,ill,who,part\n" + "\n".join(lines) + "\n"
        (folder / "hospitals" / f"h{number}.csv").write_text(text)
    path = folder / "federation.toml"
    split = 'split = "part"' if given else 'ignore = ["part"]'
    path.write_text(TEXT.replace("[task.columns]", f"[task.columns]\n{split}"))
    return path


def ledgers(run: Path) -> dict[str, list[Entry]]:
    found = {}
    for path in sorted((run / "ledgers").glob("*.sqlite")):
        with Ledger.open(path, path.stem) as kept:
            found[path.stem] = kept.entries()
    return found


@pytest.mark.parametrize("given", [False, True])
def test_everything_of_a_run_is_in_one_ledger_and_within_epsilon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    left: list[tuple[str, str]] = []
    plain = PrivateSum.noised

    def watched(self: PrivateSum, sums: Sums, limits: Any = None) -> Sums:
        assert self.hospital.ledger_path is not None
        with Ledger.open(self.hospital.ledger_path, self.hospital.name) as kept:
            paid = [one for one in kept.entries() if one.purpose == self.purpose]
        left.append((self.hospital.name, self.purpose))
        assert len(paid) >= left.count(left[-1]), "it is paid for before it leaves"
        assert paid[-1].clipping_norm == self.sensitivity
        return plain(self, sums, limits)

    monkeypatch.setattr(PrivateSum, "noised", watched)
    result = simulate(hospitals(tmp_path, given))
    found = ledgers(result.run_directory)
    assert len(found) == 3
    assert {"preparation", "evaluation"} == {purpose for _, purpose in left}
    for entries in found.values():
        order = [one.purpose for one in entries if one.purpose != "evaluation"]
        assert order == ["", "preparation", "training", "training"]
        (prepared,) = (one for one in entries if one.purpose == "preparation")
        assert prepared.releases == (sum_release(result.config, "preparation", 1),)
        assert prepared.side.startswith("train ") and prepared.unit == "patient"
        assert {one.side for one in entries if one.purpose == "training"} == {prepared.side}
    for path in sorted((result.run_directory / "ledgers").glob("*.sqlite")):
        with Ledger.open(path, path.stem) as kept:
            assert 4.9 < kept.spent(1e-5, "patient") <= 5.0


@pytest.mark.parametrize("at", [1, 2, 3])
def test_what_ends_before_it_leaves_counts_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    calls = 0
    plain = PrivateSum.noised

    def failing(self: PrivateSum, sums: Sums, limits: Any = None) -> Sums:
        nonlocal calls
        calls += 1
        if calls == at:
            raise PrivacyRefused("the power is gone")
        return plain(self, sums, limits)

    monkeypatch.setattr(PrivateSum, "noised", failing)
    with pytest.raises(WardroundError):
        simulate(hospitals(tmp_path))
    (run,) = (tmp_path / "runs").iterdir()
    paid = [one for entries in ledgers(run).values() for one in entries]
    assert sum(one.purpose == "preparation" for one in paid) >= min(calls, 3)
    assert not any(one.purpose == "training" for one in paid)


def test_a_limit_stops_it_before_anything_leaves(tmp_path: Path) -> None:
    path = hospitals(tmp_path)
    path.write_text(path.read_text() + "epsilon_limit = 0.5\n")
    with pytest.raises(WardroundError, match="limit"):
        simulate(path)
    (run,) = (tmp_path / "runs").iterdir()
    assert {one.purpose for entries in ledgers(run).values() for one in entries} == {""}
