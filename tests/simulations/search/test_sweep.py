"""``sweep``: every combination once, whatever happens in between, and one honest table."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from wardround.common.config.load import Config, load_config
from wardround.common.config.overrides import override_value
from wardround.common.durable.lock import take_lock
from wardround.common.errors import ConfigError, RunDirectoryError, TransportError, WardroundError
from wardround.common.run.directory import RunDirectory
from wardround.server.observer import Observer
from wardround.simulations import SweepResult, cli, simulate, sweep
from wardround.simulations.search import runs
from wardround.simulations.search.page import grid_figure
from wardround.simulations.search.runs import Failure, Figures
from wardround.simulations.search.summary import Spread, result_table
from wardround.simulations.search.sweep import read_sweep
from wardround.simulations.search.values import label, split_values, toml_text

SETS = [
    "federation.rounds=2",
    "data.validation_fraction=0.2",
    "secure_aggregation.enabled=false",
    "simulation.baselines=false",
]
GRID = {"training.lr": [0.01, 0.3], "strategy.name": ["fedavg"]}
SEEDS = [1, 2]


def runs_in(folder: Path) -> str:
    return f'federation.runs="{folder / "runs"}"'


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> SweepResult:
    """A sweep that nothing disturbs."""
    return sweep(None, GRID, SEEDS, overrides=[*SETS, runs_in(tmp_path_factory.mktemp("quiet"))])


def but_seconds(result: SweepResult) -> list[dict[str, Any]]:
    """What a sweep's table says, and of which runs, without what differs from time to time."""
    rows = [{k: v for k, v in row.figures.items() if k != "seconds"} for row in result.rows]
    settings = [{"settings": row.settings, "runs": row.complete} for row in result.rows]
    return [row | one for row, one in zip(rows, settings, strict=True)]


def test_it_runs_the_product_of_grid_and_seeds(quiet) -> None:
    expected = [
        ({"training.lr": lr, "strategy.name": name}, seed)
        for lr, name, seed in itertools.product([0.01, 0.3], ["fedavg"], SEEDS)
    ]
    assert [(one.settings, one.seed) for one in quiet.combinations] == expected
    for one in quiet.combinations:
        config = load_config(RunDirectory.open(quiet.folder / (one.run or "")).config_path)
        assert config.training.lr == one.settings["training.lr"]
        assert config.federation.seed == one.seed
    assert quiet.folder.name.startswith("breast-cancer-sweep-")


def test_a_combination_is_the_run_that_simulate_would_do(quiet, tmp_path) -> None:
    sets = [*SETS, "training.lr=0.3", "federation.seed=2", runs_in(tmp_path)]
    alone = simulate(overrides=sets)
    one = quiet.combinations[3]
    assert one.figures is not None
    assert one.figures.test == pytest.approx(alone.figure("auc"), rel=1e-12)
    validated = alone.figure("auc", split="validation")
    assert one.figures.validation == pytest.approx(validated, rel=1e-12)
    sent = sum(row["bytes_down"] + row["bytes_up"] for row in alone.rounds)
    assert one.figures.size_bytes == sent and one.figures.epsilon is None


def test_rows_are_means_and_sample_deviations_over_seeds(quiet) -> None:
    assert len(quiet.rows) == 2
    for index, row in enumerate(quiet.rows):
        figures = [one.figures for one in quiet.combinations[2 * index : 2 * index + 2]]
        for name in ("validation", "test"):
            values = [getattr(one, name) for one in figures]
            assert row.figures[name].mean == pytest.approx(sum(values) / 2)
            deviation = abs(values[0] - values[1]) / 2**0.5
            assert row.figures[name].deviation == pytest.approx(deviation)
        assert row.figures["epsilon"] == Spread()


def test_the_files_say_what_the_result_says(quiet) -> None:
    with open(quiet.folder / "sweep.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["training.lr"] for line in lines] == ["0.01", "0.3"]
    assert [float(line["test_mean"]) for line in lines] == [
        row.figures["test"].mean for row in quiet.rows
    ]
    assert {line["epsilon_mean"] for line in lines} == {""}
    assert read_sweep(quiet.folder) == quiet
    page = (quiet.folder / "sweep.html").read_text()
    assert "auc on validation rows" in page and "training.lr" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page), "it must open offline"


class StopAfter(Observer):
    """Interrupts a run once a round is committed."""

    def __init__(self, stop: int) -> None:
        self.stop = stop

    def round_committed(self, row: dict[str, Any]) -> None:
        if row["round"] == self.stop:
            raise KeyboardInterrupt


def test_an_interrupted_sweep_goes_on_to_the_same_table(quiet, tmp_path, monkeypatch) -> None:
    """Stopped in the first of two rounds of its second run: the first run is not done again, the
    second is resumed."""
    calls: list[dict[str, Any]] = []

    def interrupted(*args, **kwargs):
        calls.append(kwargs)
        stop = {"observer": StopAfter(1)} if len(calls) == 2 else {}
        return simulate(*args, **kwargs | stop)

    monkeypatch.setattr(runs, "simulate", interrupted)
    with pytest.raises(KeyboardInterrupt, match="go on with --resume") as stopped:
        sweep(None, GRID, SEEDS, overrides=[*SETS, runs_in(tmp_path)])
    folder = Path(str(stopped.value).split("--resume ")[1])
    states = [one.status for one in read_sweep(folder).combinations]
    assert states == ["complete", "running", "pending", "pending"]
    result = sweep(resume=folder)
    assert [bool(call.get("resume")) for call in calls] == [False, False, True, False, False]
    assert but_seconds(result) == but_seconds(quiet)
    assert len(list(folder.glob("002/*/config.toml"))) == 1


def test_a_failed_combination_stops_no_other_and_is_tried_again(tmp_path, monkeypatch) -> None:
    figures = Figures(primary="auc", better="higher", validation=0.9, test=0.8)
    tried: list[str] = []

    def run_in(folder: Path, *rest: Any) -> Figures | Failure:
        tried.append(folder.name)
        return Failure("round 1 failed") if folder.name == "002" and len(tried) < 4 else figures

    monkeypatch.setattr("wardround.simulations.search.sweep.run_in", run_in)
    result = sweep(None, {"training.lr": [0.1, 0.2, 0.3]}, overrides=[runs_in(tmp_path)])
    assert [one.status for one in result.combinations] == ["complete", "failed", "complete"]
    assert [one.reason for one in result.failed] == ["round 1 failed"]
    assert [(row.complete, row.failed) for row in result.rows] == [(1, 0), (0, 1), (1, 0)]
    result = sweep(resume=result.folder)
    assert tried == ["001", "002", "003", "002"] and not result.failed
    assert result.combinations[1].figures == figures


def test_an_error_of_any_kind_is_a_reason_and_leaves_its_trace(tmp_path, monkeypatch) -> None:
    """A run whose hospitals all fail, really; and a fault that no error of the tree foresees."""
    grid = {"simulation.dropout": [0.0, 0.95]}
    sets = [*SETS, runs_in(tmp_path), "federation.rounds=1", "federation.round_attempts=1"]
    result = sweep(None, grid, overrides=[*sets, "federation.min_clients=5"])
    assert [one.status for one in result.combinations] == ["complete", "failed"]
    assert (result.combinations[1].reason or "").startswith("round 1 failed after 1 attempt")

    def broken(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(runs, "simulate", broken)
    result = sweep(resume=result.folder)
    assert result.combinations[1].reason == "RuntimeError (see 002/error.txt)"
    assert "out of memory" in (result.folder / "002" / "error.txt").read_text()


def test_epsilon_spent_stands_in_the_table(tmp_path) -> None:
    """It is the most that any hospital claims."""
    sets = [*SETS, "federation.rounds=1", "privacy.unit=example", runs_in(tmp_path)]
    result = sweep(None, {"privacy.noise_multiplier": [1.5]}, overrides=sets)
    (row,), (one,) = result.rows, result.combinations
    (line,) = RunDirectory.open(result.folder / (one.run or "")).rounds()
    claims = [claim["epsilon"] for claim in line["privacy"].values()]
    assert len(claims) == 5 and row.figures["epsilon"].mean == max(claims) > min(claims)
    assert "Epsilon spent" in (result.folder / "sweep.html").read_text()


@pytest.mark.parametrize(
    ("sweeps", "message"),
    [
        (["training.lr=0.1,-1"], r"--sweep training.lr=-1: training.lr: input should be greater"),
        (["training.lrr=0.1"], r"--sweep training.lrr=0.1: .*did you mean 'lr'"),
        (["strategy.name=fedavg,fedagv"], r"--sweep strategy.name=fedagv: .*unknown strategy"),
        (["task.model.kind=logistic,tree"], r"--sweep task.model.kind=tree: "),
        (["privacy.unit=none,example"], r"--sweep privacy.unit=example: .*set either epsilon"),
        (["federation.seed=1,2"], r"--sweep federation.seed: .*give --seeds"),
        (["federation.runs=a,b"], r"--sweep federation.runs: can't be varied"),
        (["training.lr=0.1,0.1"], r"--sweep training.lr=0.1,0.1: 0.1 stands there twice"),
        (["training.lr=0.1,,1"], r"a value is empty"),
        (["training.lr=1", "training.lr=2"], r"--sweep training.lr: stands there twice"),
        (["lr=1"], r"--sweep lr=1: write it as table.key=value,value"),
    ],
)
def test_a_bad_value_is_refused_before_anything_runs(
    tmp_path, capsys, monkeypatch, sweeps, message
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [part for one in sweeps for part in ("--sweep", one)]
    code, _, err = run(capsys, monkeypatch, "simulate", *arguments)
    assert code in (2, 5) and err.count("\n") == 1 and re.search(message, err), err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("seeds", ["1,1", "1,x", "-1"])
def test_bad_seeds_are_refused(tmp_path, capsys, monkeypatch, seeds) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, monkeypatch, "simulate", "--seeds", seeds)
    assert code == 2 and "--seeds" in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_mistake_of_the_file_is_told_as_the_files(tmp_path) -> None:
    (tmp_path / "federation.toml").write_text("[training]\nlrr = 1\n")
    with pytest.raises(ConfigError, match=r"^.*federation.toml:2: training.lrr: unknown key"):
        sweep(tmp_path / "federation.toml", {"federation.rounds": [1, 2]})


def test_changed_foreign_and_running_sweeps_are_refused(quiet, tmp_path) -> None:
    with pytest.raises(RunDirectoryError, match="not a sweep"):
        sweep(resume=tmp_path)
    with pytest.raises(ConfigError, match="leave out the file, --set, --sweep"):
        sweep(resume=quiet.folder, seeds=[1])
    with take_lock(quiet.folder / "lock"), pytest.raises(TransportError, match="already running"):
        sweep(resume=quiet.folder)
    path = quiet.folder / "001" / "federation.toml"
    text = path.read_text()
    path.write_text(text.replace("lr = 0.01", "lr = 0.02"))
    try:
        with pytest.raises(ConfigError, match="001/federation.toml: changed since"):
            sweep(resume=quiet.folder)
    finally:
        path.write_text(text)
    (tmp_path / "sweep.json").write_text(json.dumps({"grid": {}}))
    with pytest.raises(RunDirectoryError, match="damaged, or of another version"):
        sweep(resume=tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps({"version": 2, "grid": {}}))
    with pytest.raises(RunDirectoryError, match="has version 2.*or start the sweep again"):
        sweep(resume=tmp_path)


def test_a_finished_sweep_can_be_moved_and_read_again(quiet, tmp_path) -> None:
    moved = tmp_path / "moved"
    moved.symlink_to(quiet.folder)
    again = sweep(resume=moved)
    assert again.folder == moved and again.rows == quiet.rows
    path = quiet.folder / "sweep.json"
    text = path.read_text()
    values = json.loads(text)
    assert (values.pop("format"), values.pop("version")) == ("sweep", 1)
    path.write_text(json.dumps(values))  # as it was before there were versions
    try:
        assert sweep(resume=moved).rows == quiet.rows
    finally:
        path.write_text(text)


def test_the_command_prints_a_line_per_combination_and_a_table(
    tmp_path, capsys, monkeypatch
) -> None:
    scores = {"001": 0.8, "002": 0.9}

    def run_in(folder: Path, *rest: Any) -> Figures | Failure:
        score = scores.get(folder.name)
        if score is None:
            return Failure("no luck")
        return Figures(primary="auc", better="higher", validation=score, test=1 - score)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wardround.simulations.search.sweep.run_in", run_in)
    arguments = ["simulate", "--sweep", "training.lr=0.1,0.2", "--sweep", "task.kind=binary"]
    code, out, err = run(capsys, monkeypatch, *arguments, "--seeds", "7")
    assert code == 0, err
    assert "1/2  training.lr=0.1 task.kind=binary seed 7  auc validation 0.8000, test 0.2" in out
    (starred,) = [line for line in out.splitlines() if "*" in line]
    assert "0.900*" in starred and " 0.2 " in starred, "the best on validation, not on test"
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"sweep: runs/{folder.name}" in out
    code, out, _ = run(capsys, monkeypatch, "simulate", "--resume", str(folder))
    assert code == 0 and out.count("done before") == 2
    del scores["002"]
    code, out, err = run(capsys, monkeypatch, *arguments, "--seeds", "7")
    assert code == 1 and "2/2  training.lr=0.2" in out and "failed: no luck" in out
    assert "1 of 2 combinations failed; try them again with: wardround simulate --resume" in err


def run(capsys, monkeypatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["wardround", *arguments])
    code = 0
    try:
        cli.main()
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    found = capsys.readouterr()
    return code, found.out, found.err


# --- values and figures ---------------------------------------------------------------------------
def test_lists_are_split_outside_of_quotes_and_brackets() -> None:
    assert split_values("--sweep", "k", "1,2.5,true,word") == [1, 2.5, True, "word"]
    assert split_values("--sweep", "k", "[64, 32],[16]") == [[64, 32], [16]]
    assert split_values("--sweep", "k", """"a,b",'c,d'""") == ["a,b", "c,d"]
    assert split_values("--sweep", "k", "{a = 1, b = [2, 3]}") == [{"a": 1, "b": [2, 3]}]


plain = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)


@settings(max_examples=40)
@given(st.recursive(plain, lambda x: st.lists(x) | st.dictionaries(st.text("ab-_"), x)))
def test_a_value_as_toml_text_is_read_back_equal(value) -> None:
    assert override_value(toml_text(value)) == value
    assert split_values("--sweep", "k", toml_text([value])) == [[value]]


def test_what_no_configuration_holds_is_refused() -> None:
    with pytest.raises(WardroundError, match="no value of a configuration"):
        toml_text(object())


def test_the_plot_has_the_swept_number_as_its_axis_and_a_line_per_other_setting(quiet) -> None:
    """Deviations are its bars, and values that span orders of magnitude get a logarithmic axis."""
    figure = grid_figure(quiet.rows, "test", "auc")
    (line,) = figure["data"]
    assert line["x"] == [0.01, 0.3] and line["name"] == label({"strategy.name": "fedavg"})
    assert line["y"] == [row.figures["test"].mean for row in quiet.rows]
    assert line["error_y"]["array"] == [row.figures["test"].deviation for row in quiet.rows]
    assert figure["layout"]["xaxis"]["type"] == "log"
    assert statistics.fmean(line["y"]) > 0.5


def test_no_row_is_starred_where_rows_are_scored_on_other_data() -> None:
    """G7: alpha deals the patients out anew; a learning rate doesn't."""
    from wardround.simulations.search.scored import SCORED_ROWS, changes_scored_rows
    from wardround.simulations.search.summary import FIGURES, Row, Spread, best

    def row(key: str, value: float) -> Row:
        figures = {name: Spread(value) for name in FIGURES}
        return Row({key: value}, "auc", "higher", 1, 0, figures)

    rows = [row("training.lr", 0.1), row("training.lr", 0.9)]
    assert best(rows) is rows[1]
    assert best([row("simulation.alpha", 0.1), row("simulation.alpha", 0.9)]) is None
    assert changes_scored_rows("data.test_fraction") and changes_scored_rows("simulation")
    assert not changes_scored_rows("task.model.hidden")
    for key in SCORED_ROWS:  # of the tables that are ours: no name that nothing has
        table, _, name = key.partition(".")
        if name and table != "task":
            assert name in Config.model_fields[table].annotation.model_fields, key


def test_an_error_bound_that_matters_stands_beside_its_figure(tmp_path: Path) -> None:
    """Two score bins: an AUC that may be far off."""
    sets = [f'federation.runs="{tmp_path}"', "federation.rounds=1", "simulation.baselines=false"]
    result = sweep(None, {"task.bins": [2, 1000]}, overrides=sets)
    coarse, fine = result.rows
    assert coarse.bounds["test"] > 0.005 and fine.bounds == {}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(result_table(result.rows))
    text = console.export_text()
    assert text.count(f"(±{coarse.bounds['test']:.3f})") == 1 and "in brackets" in text
