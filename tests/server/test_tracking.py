"""Trackers that watch a run: each round once, and none that fails, hangs or is missing ends it."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.common.run.test_tracking import line, scalars
from wardround.common.config.load import Config, parse_config
from wardround.common.errors import ConfigError
from wardround.common.manifest.planned import planned_rounds
from wardround.common.run.directory import RunDirectory
from wardround.common.run.shaping import digest
from wardround.common.run.tracking.track import bring, metrics_of
from wardround.common.secagg.content import descriptor
from wardround.common.trust.description import shared_toml
from wardround.server.observer import Observer
from wardround.server.tracking import tracked
from wardround.simulations import simulate

SHORT = ["simulation.clients=3", "simulation.baselines=false", "federation.rounds=3"]


class Notes(Observer):
    """Keeps what it is warned of, and stops a run after a round."""

    def __init__(self, stop_after: int = 0) -> None:
        self.lines: list[str] = []
        self._stop_after = stop_after

    def warnings(self, lines: list[str]) -> None:
        self.lines += [line for line in lines if line.startswith("tracking")]

    def round_committed(self, row: dict[str, object]) -> None:
        if row["round"] == self._stop_after:
            raise KeyboardInterrupt


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "runs", "demo", "")


def rounds_through(run: RunDirectory, config: Config, patience_s: float, rows: int = 3) -> Notes:
    notes = Notes()
    with tracked(config, run, notes, patience_s) as observer:
        for number in range(1, rows + 1):
            run.append_round(line(number))
            observer.round_committed(line(number))
        run.update(status="complete")
    return notes


def tracking(**keys: object) -> Config:
    return Config.model_validate({"tracking": keys})


def test_a_simulations_rounds_are_read_back_once_after_it_was_resumed(tmp_path: Path) -> None:
    """Every second round has figures; what the tracker has is what `metrics.jsonl` shows."""
    sets = [*SHORT, f"federation.runs={tmp_path}", "evaluation.every=2"]
    sets += ['tracking.to=["tensorboard"]']
    with pytest.raises(KeyboardInterrupt):
        simulate(overrides=sets, observer=Notes(stop_after=2))
    (path,) = tmp_path.glob("*/config.toml")
    simulate(resume=path.parent)
    run, folder = RunDirectory.open(path.parent), tmp_path / "tracking"
    found = scalars(folder / run.path.name)
    expected: dict[str, list[tuple[int, float]]] = {}
    for row in run.rounds():
        for tag, value in metrics_of(row).items():
            expected.setdefault(tag, []).append((row["round"], pytest.approx(value)))
    assert found == expected and [step for step, _ in found["round"]] == [1, 2, 3]
    assert bring(run, "tensorboard", str(folder)) == 0
    names = {name for row in run.rounds() for name in row["accepted"]}
    assert names and not any(name in tag for tag in found for name in names)


def test_a_last_round_that_is_evaluated_after_all_has_its_figures(
    run: RunDirectory, tmp_path: Path
) -> None:
    notes = Notes()
    with tracked(tracking(to=["tensorboard"]), run, notes) as observer:
        for number in (1, 2):
            run.append_round(line(number) | {"overall": {}, "hospitals": {}})
            observer.round_committed(run.rounds()[-1])
        assert bring(run, "tensorboard", str(tmp_path / "asked")) == 1  # it may still be evaluated
        run.replace_round(line(2))
        observer.round_evaluated(line(2))
        run.update(status="complete")
    found = scalars(run.path.parent / "tracking" / run.path.name)
    assert [step for step, _ in found["round"]] == [1, 2] and found["test/auc"][0][0] == 2
    assert notes.lines == []


def test_one_that_fails_is_told_of_once_and_catches_up(run: RunDirectory, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    config = tracking(to=["tensorboard"], folder=str(blocked / "below"))
    (told,) = rounds_through(run, config, 30.0).lines
    assert "tensorboard can't be written to" in told and "--to tensorboard" in told
    assert str(tmp_path) not in told
    blocked.unlink()
    assert rounds_through(run, config, 30.0, rows=0).lines == []  # as a resumed run does
    assert [s for s, _ in scalars(blocked / "below" / run.path.name)["round"]] == [1, 2, 3]


def test_one_that_never_answers_is_left_alone(run: RunDirectory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config = tracking(to=["mlflow", "tensorboard"], mlflow=uri)
        notes = rounds_through(run, config, 2.0, rows=100)
    (told,) = notes.lines
    assert "mlflow doesn't answer" in told
    found = scalars(run.path.parent / "tracking" / run.path.name)  # the other one isn't held up
    assert [step for step, _ in found["round"]] == list(range(1, 101))


def test_one_that_is_missing_is_told_of_before_the_rounds(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    (told,) = rounds_through(run, tracking(to=["wandb"]), 5.0).lines
    assert "wandb is not installed" in told and "wardround[tracking]" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('to = ["mlflow"]', "the address goes with 'mlflow'"),
        ('mlflow = "http://x"', "the address goes with 'mlflow'"),
        ('folder = "x"', "works only with"),
        ('to = ["wandb", "wandb"]', "twice"),
        ('to = ["mlflow"]\nmlflow = "http://me:secret@x"', "no names and passwords"),
        ('to = ["wandb"]\n[study]\nname = "s"\npurpose = "p"', "the coordinator's"),
        ('to = ["wandb"]\n[procedure]\nname = "describe"', "trains nothing"),
    ],
)
def test_what_cant_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(f"[tracking]\n{text}")


def test_no_hospital_is_told_of_it() -> None:
    text = '[federation]\nname = "f"\n[tracking]\nto = ["mlflow"]\nmlflow = "http://canary:5000"\n'
    config, plain = parse_config(text), parse_config(text.partition("[tracking]")[0])
    assert shared_toml(config) == shared_toml(plain)
    assert descriptor(config) == descriptor(plain) and digest(config, True) == digest(plain, True)
    assert planned_rounds(config) == planned_rounds(plain)
    network = parse_config(text + "[network]\n")
    assert "canary" not in shared_toml(network) and network.tracking.to == ["mlflow"]
    assert parse_config(config.to_toml()).tracking == config.tracking
