"""Private runs from end to end: deterministic, resumable, budgeted, and told in the report."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wardround.client.privacy.ledger import Ledger
from wardround.common.errors import RoundFailed, WardroundError
from wardround.common.privacy.claims import Claim
from wardround.server.gathering.gatherer import Budgets
from wardround.server.observer import Observer
from wardround.server.strategies import INDIVIDUAL, MEAN
from wardround.simulations import simulate

UNIT = {
    "local": ["privacy.unit=example", "privacy.noise_multiplier=1.0"],
    "distributed": [
        "privacy.unit=example",
        "privacy.noise=distributed",
        "privacy.noise_multiplier=1.0",
        "training.local_steps=1",
        "training.batch_size=40",
    ],
    "central": [
        "privacy.unit=hospital",
        "privacy.noise=central",
        "privacy.noise_multiplier=0.5",
        "privacy.clipping=adaptive",
    ],
}
ONLY_TRAINING = 'privacy.covers=["training"]'
PLAIN = "secure_aggregation.enabled=false"
THREE = "simulation.clients=3"
"""As few as may sum under masks, where it isn't their number that counts."""


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    return [
        "federation.rounds=3",
        "simulation.baselines=false",
        f'federation.runs="{tmp_path / "runs"}"',
    ]


def model_bytes(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


class StopAfter(Observer):
    """Interrupts a run once a round is committed."""

    def __init__(self, stop: int) -> None:
        self.stop = stop
        self.run: Path | None = None

    def round_committed(self, row: dict[str, Any]) -> None:
        if row["round"] == self.stop:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", UNIT)
@pytest.mark.parametrize("masked", [True, False])
def test_same_seed_same_model_and_resume_spends_nothing_twice(
    overrides: list[str], tmp_path: Path, kind: str, masked: bool
) -> None:
    if kind == "distributed" and not masked:
        pytest.skip("refused: distributed noise needs masks")
    sets = [*overrides, THREE, *UNIT[kind], *([] if masked else [PLAIN])]
    whole = simulate(overrides=sets)
    with pytest.raises(KeyboardInterrupt, match="--resume") as stopped:
        simulate(overrides=sets, observer=StopAfter(2))
    run = Path(str(stopped.value).rpartition(" ")[2])
    resumed = simulate(resume=run)
    assert model_bytes(resumed.run_directory) == model_bytes(whole.run_directory)
    assert [row["privacy"] for row in resumed.rounds] == [row["privacy"] for row in whole.rounds]
    assert {len(ledger) for ledger in ledgers(run)} == {
        len(one) for one in ledgers(whole.run_directory)
    }
    other = simulate(overrides=[*sets, "federation.seed=11"])
    assert model_bytes(other.run_directory) != model_bytes(whole.run_directory)


def ledgers(run: Path, hospitals: int = 3) -> list[list[Any]]:
    found = []
    for path in sorted((run / "ledgers").glob("*.sqlite")):
        with Ledger.open(path, path.stem) as ledger:
            found.append(ledger.entries())
    assert len(found) == hospitals
    return found


NEVER = {"ditto", "apfl", "fedrep", "moon"}
REFUSED = {
    "local": {"fedbn", *NEVER},
    "distributed": {"scaffold", "feddyn", "fedbn", "fedper", *NEVER},
    "central": {"scaffold", "feddyn", "fednova", *NEVER},
}
RUNS = {
    "local": set(MEAN),
    "distributed": {"fedavg", "fedadam", "fednova"},
    "central": {"fedavgm", "fedprox", "fedbn", "fedper"},
}
"""Where noise is added to a sum, a client's terms and a server's steps are as without it: some."""


@pytest.mark.parametrize(
    ("kind", "name"),
    [(k, name) for k in UNIT for name in sorted(MEAN) if name in RUNS[k] | REFUSED[k]],
)
def test_every_strategy_runs_privately_or_is_refused_by_name(
    overrides: list[str], kind: str, name: str
) -> None:
    model = ["task.model.kind=mlp", "task.model.hidden=[4]"]
    if name == "fedbn":
        model += ["task.model.norm=batch", "training.batch_size=64"]
    sets = [*overrides, THREE, *UNIT[kind], *model, f"strategy.name={name}"]
    sets.append("federation.rounds=2")
    if name == "fedprox":
        sets.append("strategy.proximal_mu=0.1")
    if name in REFUSED[kind]:
        with pytest.raises(WardroundError, match=name + "|BatchNorm"):
            simulate(overrides=sets)
        return
    result = simulate(overrides=sets)
    assert len(result.rounds[-1]["privacy"]) == 3


@pytest.mark.parametrize("name", sorted(INDIVIDUAL))
def test_robust_rules_see_updates_that_carry_their_noise(overrides: list[str], name: str) -> None:
    options = {
        "krum": ["strategy.num_malicious_nodes=1"],
        "multikrum": ["strategy.num_malicious_nodes=1", "strategy.num_nodes_to_select=2"],
        "bulyan": ["strategy.num_malicious_nodes=0"],
    }
    sets = [*overrides, *UNIT["local"], PLAIN, f"strategy.name={name}", *options.get(name, [])]
    assert simulate(overrides=sets).rounds[-1]["privacy"]


def test_a_hospital_at_its_limit_stays_away_and_the_federation_goes_on(
    overrides: list[str], tmp_path: Path
) -> None:
    """Epsilon follows from the noise and grows fastest at the smallest hospital."""
    sets = [*overrides, *UNIT["local"], "federation.rounds=12", "federation.min_clients=2"]
    sets += ["secure_aggregation.min_cohort=2", "secure_aggregation.threshold=0.5"]
    free = simulate(overrides=sets)
    spent = {name: one["epsilon"] for name, one in free.rounds[-1]["privacy"].items()}
    limit = sorted(spent.values())[2]
    result = simulate(overrides=[*sets, f"privacy.epsilon_limit={limit + 1e-9}"])
    last = result.rounds[-1]
    assert last["round"] == 12 and len(last["privacy"]) == 3
    assert set(last["cohort"]) == {name for name, e in spent.items() if e <= limit + 1e-9}
    for row in result.rounds:
        assert all(one["epsilon"] <= limit + 1e-9 for one in row["privacy"].values())


def test_when_budgets_are_spent_the_run_ends_with_what_it_has(overrides: list[str]) -> None:
    sets = [*overrides, THREE, *UNIT["distributed"], "federation.rounds=12", ONLY_TRAINING]
    whole = simulate(overrides=[*sets, "federation.rounds=7"])
    limit = whole.rounds[6]["privacy"]["hospital-1"]["epsilon"]
    result = simulate(overrides=[*sets, f"privacy.epsilon_limit={limit + 1e-9}"])
    assert [row["round"] for row in result.rounds] == list(range(1, 8))
    summary = json.loads((result.run_directory / "run.json").read_text())
    assert summary["status"] == "complete" and "privacy budget" in summary["ended_early"]
    assert (
        "max_epsilon_total of its site.toml, else privacy.epsilon_limit" in summary["ended_early"]
    )
    assert "ended early" in (result.run_directory / "report.html").read_text()
    assert result.figure("loss") == whole.rounds[6]["overall"]["test"]["loss"]


@pytest.mark.parametrize("told", [True, False], ids=["claimed", "refused"])
def test_the_last_round_is_evaluated_whatever_ends_the_run(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Evaluated every 5 rounds, ended after 3: by claims that tell that no further round is paid
    for, or only by hospitals that refuse it."""
    sets = [*overrides, THREE, *UNIT["distributed"], "federation.rounds=12"]
    sets.append("evaluation.every=5")
    sets.append(ONLY_TRAINING)
    if not told:
        noted = Budgets.note_claim

        def silent(self: Budgets, claim: Claim) -> None:
            noted(self, replace(claim, more=True))

        monkeypatch.setattr(Budgets, "note_claim", silent)
    whole = simulate(overrides=[*sets, "federation.rounds=3"])
    limit = whole.rounds[2]["privacy"]["hospital-1"]["epsilon"]
    result = simulate(overrides=[*sets, f"privacy.epsilon_limit={limit + 1e-9}"])
    assert [row["round"] for row in result.rounds] == [1, 2, 3]
    assert [bool(row["overall"]) for row in result.rounds] == [False, False, True]
    assert 0 < result.figure("auc") < 1 and result.comparison
    assert result.figure("loss") == pytest.approx(whole.figure("loss"), rel=1e-9)


def test_a_limit_below_the_first_round_stops_the_run_with_a_sentence(overrides: list[str]) -> None:
    with pytest.raises(RoundFailed, match="privacy"):
        simulate(overrides=[*overrides, *UNIT["local"], "privacy.epsilon_limit=0.6"])


@pytest.mark.parametrize("damage", ["missing", "empty", "another's"])
def test_a_ledger_that_can_not_vouch_stops_its_hospital(
    overrides: list[str], tmp_path: Path, damage: str
) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        simulate(overrides=[*overrides, *UNIT["local"]], observer=StopAfter(1))
    run = Path(str(stopped.value).rpartition(" ")[2])
    for path in (run / "ledgers").glob("hospital-1*"):
        if damage == "another's":
            shutil.copy(str(path).replace("hospital-1", "hospital-2"), path)
        else:
            path.unlink()
            if damage == "empty":
                path.touch()
    recorder: list[Any] = []

    class Listen(Observer):
        def members(self, members: Any, refused: Any) -> None:
            recorder.extend(refused)

    resumed = simulate(resume=run, observer=Listen())
    assert "ledger" in recorder[0]["reason"]
    assert "hospital-1" not in resumed.rounds[-1]["privacy"]


def test_the_report_says_what_is_private_and_what_is_not(overrides: list[str]) -> None:
    overrides = [*overrides, THREE, "federation.rounds=2"]
    run = simulate(overrides=[*overrides, *UNIT["local"]]).run_directory
    page = (run / "report.html").read_text()
    assert "Not private: the sums of the data preparation" in page
    assert "Figures on held-out rows carry noise too" in page
    run = simulate(overrides=[*overrides, *UNIT["local"], ONLY_TRAINING]).run_directory
    page = (run / "report.html").read_text()
    for text in (
        "Differential privacy, unit example",
        "one training row is added or removed",
        "comes from the run&#39;s seed",
        "Not private: the figures on held-out rows",
        "Privacy budget by round",
    ):
        assert text in page, text
    assert "Training loss by round" not in page


def test_dropouts_before_and_after_the_upload_cost_nothing_but_their_own_part(
    overrides: list[str],
) -> None:
    sets = [*overrides, *UNIT["distributed"], "federation.rounds=6", "simulation.dropout=0.2"]
    sets += ["simulation.unmask_dropout=0.2", "secure_aggregation.threshold=0.5"]
    result = simulate(overrides=[*sets, "federation.round_attempts=20"])
    assert any(len(row["accepted"]) < 5 for row in result.rounds)
