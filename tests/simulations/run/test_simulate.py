"""``simulate`` from Python: deterministic, resumable, measured as promised."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from wardround.client.data.splitting import split_rows
from wardround.common.config.load import parse_config
from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import ConfigError, RoundFailed, RunDirectoryError
from wardround.common.figures.within import STEPS
from wardround.common.run.directory import RunDirectory
from wardround.server.observer import Observer
from wardround.simulations import simulate


class Recorder(Observer):
    """Keeps who could not take part, and why."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, str]] = []

    def members(self, members, refused) -> None:
        self.refused = [(row["hospital"], row["reason"]) for row in refused]


QUICK = ["federation.rounds=3"]


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    return [*QUICK, f'federation.runs="{tmp_path / "runs"}"']


PLAIN = "secure_aggregation.enabled=false"
PAIRS = "secure_aggregation.min_cohort=2"
ALONE = "simulation.baselines=false"
"""Without the models that others are compared with."""


def model_bytes(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def test_same_seed_same_bytes_other_seed_other_bytes(overrides) -> None:
    overrides = [*overrides, ALONE]
    one, two = simulate(overrides=overrides), simulate(overrides=overrides)
    other = simulate(overrides=[*overrides, "federation.seed=7"])
    assert one.run_directory != two.run_directory
    assert model_bytes(one.run_directory) == model_bytes(two.run_directory)
    assert model_bytes(one.run_directory) != model_bytes(other.run_directory)
    kept = [{k: v for k, v in row.items() if k != "seconds"} for row in one.rounds]
    assert kept == [{k: v for k, v in row.items() if k != "seconds"} for row in two.rounds]


def test_what_a_run_leaves_behind(overrides) -> None:
    result = simulate(overrides=overrides)
    run = result.run_directory
    assert {path.name for path in run.iterdir()} == {
        "checkpoints",
        "config.toml",
        "environment.json",
        "lock",
        "metrics.jsonl",
        "model",
        "report.html",
        "run.json",
        "sums.safetensors",
    }
    arrays, state = read_tensors(run / "model" / "model.safetensors")
    named = [one.name for one in result.predictor().schema.inputs]
    assert sorted(state.pop("inputs")) == sorted(named) and len(named) == 30
    assert state == {"round": 3}
    for name, value in result.model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), arrays[name])
    assert json.loads((run / "run.json").read_text())["status"] == "complete"
    assert parse_config((run / "config.toml").read_text()).federation.rounds == 3
    assert [row["round"] for row in result.rounds] == [1, 2, 3]


def test_records_are_flat_and_the_overall_auc_is_that_of_pooled_predictions(overrides) -> None:
    """Recomputed outside: the final model on every hospital's test rows, with scikit-learn."""
    from wardround.common.config.task import make_task
    from wardround.common.flower.arrays import digest_arrays
    from wardround.simulations.population.hospitals import Population

    result = simulate(overrides=[*overrides, PLAIN])
    task = make_task(result.config)
    population = Population(result.config, task)
    totals, _ = read_tensors(result.run_directory / "model" / "preparation.safetensors")
    scores, truth = [], []
    for name in population.names:
        test = population.hospital(name).examples(totals, digest_arrays(totals))["test"]
        with torch.no_grad():
            scores.append(torch.sigmoid(result.model(test.inputs)[:, 0]))
        truth.append(test.targets)
    expected = roc_auc_score(torch.cat(truth), torch.cat(scores))
    bound = result.figure("auc_error_bound")
    assert abs(result.figure("auc", "overall") - expected) <= bound + 1e-9 < 0.005
    assert set(result.records[0]) == {"round", "hospital", "split", "metric", "value"}
    by_hospital = [result.figure("auc", name) for name in population.names]
    assert result.figure("auc", "mean") == pytest.approx(np.mean(by_hospital))
    assert result.figure("auc") == result.figure("auc", "mean")
    assert result.figure("brier") == result.figure("brier", "overall")


def test_the_comparison_has_every_hospital_and_both_averages(overrides) -> None:
    result = simulate(overrides=overrides)
    assert [row["hospital"] for row in result.comparison] == [
        *(f"hospital-{i}" for i in range(1, 6)),
        "mean",
        "overall",
    ]
    assert result.comparison[-1]["federated"]["auc"] == result.figure("auc", "overall")
    assert result.comparison[-2]["federated"]["auc"] == pytest.approx(
        result.figure("auc"), abs=0.5 / STEPS
    )
    assert {"local", "federated", "pooled"} < set(result.comparison[0])


def test_pooled_baseline_of_one_hospital_is_the_local_one(overrides) -> None:
    sets = [*overrides, "simulation.clients=1", "federation.min_clients=1", PLAIN]
    result = simulate(overrides=sets)
    row = result.comparison[0]
    assert row["pooled"]["auc"] == pytest.approx(row["local"]["auc"], abs=0.02)


@pytest.mark.parametrize(
    "sets",
    [
        [PLAIN, "simulation.dropout=0.3"],
        [
            "simulation.clients=9",
            "secure_aggregation.threshold=0.5",
            "simulation.dropout=0.2",
            "simulation.unmask_dropout=0.2",
            "federation.round_attempts=9",
        ],
    ],
)
def test_dropouts_are_refused_replies_and_repeat(overrides, sets) -> None:
    sets = [*overrides, *sets, ALONE, "federation.min_clients=2"]
    one, two = simulate(overrides=sets), simulate(overrides=sets)
    refused = [x for row in one.rounds for x in row["refused"]]
    assert refused and all(
        x["reason"] == "failed: simulated dropout (simulation.dropout)" for x in refused
    )
    assert model_bytes(one.run_directory) == model_bytes(two.run_directory)


def test_with_and_without_secure_aggregation_the_figures_are_the_same(overrides) -> None:
    """A step is 8 / 2^22 and a hospital's share at least 1/4: the weights differ by some 1e-5, so
    a loss by no more (its gradient is below 1) and an AUC by no pair of patients, but for the
    rounding of what a hospital adds of its own."""
    secure, plain = simulate(overrides=overrides), simulate(overrides=[*overrides, PLAIN])
    assert secure.figure("loss") == pytest.approx(plain.figure("loss"), abs=1e-4)
    assert secure.figure("auc") == pytest.approx(plain.figure("auc"), abs=0.5 / STEPS)
    for one, other in zip(secure.comparison, plain.comparison, strict=True):
        for figure, value in other["federated"].items():
            assert one["federated"][figure] == pytest.approx(value, abs=1e-3, nan_ok=True)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(secure.model.state_dict()[name], value, rtol=0, atol=5e-5)
    totals = [
        read_tensors(r.run_directory / "model" / "preparation.safetensors")[0]
        for r in (secure, plain)
    ]
    assert totals[0].keys() == totals[1].keys()
    for name, value in totals[1].items():
        np.testing.assert_allclose(totals[0][name], value, rtol=1e-14)


def test_nothing_of_a_single_hospital_reaches_the_servers_records(overrides) -> None:
    """What the server wrote of one hospital: its rows, and whether its answers came."""
    result = simulate(overrides=overrides)
    assert all(row["hidden"] and row["hospitals"] == {} for row in result.rounds)
    assert {r["hospital"] for r in result.records} == {"overall", "mean"}
    mean = {r["metric"] for r in result.records if r["hospital"] == "mean"}
    areas = {"auc", "average_precision"}
    assert mean == areas | {f"{name}_error_bound" for name in areas}
    with pytest.raises(KeyError, match="no test figure 'aucc'; there are accuracy, auc, "):
        result.figure("aucc")
    with pytest.raises(KeyError, match="secure aggregation hides single hospitals"):
        result.figure("auc", "hospital-1")
    page = (result.run_directory / "report.html").read_text()
    assert page.count('<td class="num">hidden</td>') == 5
    assert "the server saw sums over hospitals only" in page


def test_a_stopped_run_is_reported_and_resumable(overrides) -> None:
    sets = [*overrides, "simulation.dropout=0.9", "federation.round_attempts=1"]
    with pytest.raises(RoundFailed, match="--resume"):
        simulate(overrides=[*sets, "federation.min_clients=5"])
    runs = Path(overrides[1].split('"')[1])
    (run,) = runs.iterdir()
    assert json.loads((run / "run.json").read_text())["status"].startswith("stopped: round 1")
    assert "stopped: round 1" in (run / "report.html").read_text()
    with pytest.raises(RoundFailed):
        simulate(resume=run)


def test_resuming_a_complete_run_changes_nothing(overrides) -> None:
    result = simulate(overrides=overrides)
    before = model_bytes(result.run_directory)
    again = simulate(resume=result.run_directory)
    assert model_bytes(again.run_directory) == before
    assert again.rounds == result.rounds and again.comparison == result.comparison
    with pytest.raises(ConfigError, match="leave out the file"):
        simulate("federation.toml", resume=result.run_directory)
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        simulate(resume=result.run_directory.parent)


def test_what_doesnt_shape_the_model_may_change_before_a_run_goes_on(overrides) -> None:
    result = simulate(overrides=overrides)
    run = result.run_directory
    with pytest.raises(ConfigError, match=r"begun with other settings: training.lr was .*, is 0.5"):
        simulate(resume=run, overrides=["training.lr=0.5"])
    with pytest.raises(ConfigError, match="simulation.min_examples"):
        simulate(resume=run, overrides=["simulation.min_examples=3"])
    again = simulate(resume=run, overrides=["federation.round_timeout_s=5.0"])
    assert again.config.federation.round_timeout_s == 5.0 and again.rounds == result.rounds
    assert "round_timeout_s = 5.0" in (run / "config.toml").read_text()
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("local_epochs = 1", "local_epochs = 2"))
    with pytest.raises(ConfigError, match=r"config.toml: was edited in what shapes the model"):
        simulate(resume=run)


def test_a_run_between_machines_is_not_simulated_on(overrides) -> None:
    run = RunDirectory.open(simulate(overrides=overrides).run_directory)
    assert run.summary()["kind"] == "simulated"
    run.update(kind="deployed")
    with pytest.raises(RunDirectoryError, match="between machines.*wardround server federation"):
        simulate(resume=run.path)


def test_the_best_round_is_chosen_on_validation(overrides) -> None:
    sets = [*overrides, "data.validation_fraction=0.2", "evaluation.select=best", "training.lr=3.0"]
    result = simulate(overrides=[*sets, "federation.rounds=6"])
    values = {
        r["round"]: r["value"]
        for r in result.records
        if (r["hospital"], r["split"], r["metric"]) == ("mean", "validation", "auc")
    }
    _, state = read_tensors(result.run_directory / "model" / "model.safetensors")
    assert values[state["round"]] == max(values.values())
    assert result.round == state["round"]


def test_a_folder_of_hospitals_and_a_file_to_partition(tmp_path: Path, overrides) -> None:
    generator = np.random.default_rng(0)
    folder = tmp_path / "sites"
    folder.mkdir()
    for site in ("north", "south", "west"):
        x = generator.normal(size=40)
        y = (x + generator.normal(size=40) > 0).astype(int)
        lines = [f"{a:.4f},{b}" for a, b in zip(x, y, strict=True)]
        (folder / f"{site}.csv").write_text("x,ill\n" + "\n".join(lines) + "\n")
    sets = [*overrides, 'task.columns={target="ill", numeric=["*"]}', "federation.min_clients=2"]
    sets.append(PAIRS)
    natural = simulate(overrides=[*sets, f'data.path="{folder}"', "simulation.partition=sites"])
    assert [row["hospital"] for row in natural.comparison[:3]] == ["north", "south", "west"]
    (tmp_path / "all.csv").write_text((folder / "north.csv").read_text())
    cut = simulate(
        overrides=[
            *sets,
            f'data.path="{tmp_path / "all.csv"}"',
            "simulation.clients=2",
            "simulation.min_examples=10",
        ]
    )
    assert len(cut.comparison) == 4
    with pytest.raises(ConfigError, match="no such file or folder"):
        simulate(overrides=[*sets, 'data.path="nothing"'])
    with pytest.raises(ConfigError, match="needs data.path to be a folder"):
        simulate(overrides=[*sets, "simulation.partition=sites"])


def test_one_broken_hospital_is_named_and_the_others_go_on(tmp_path: Path, overrides) -> None:
    folder = tmp_path / "sites"
    folder.mkdir()
    good = "x,ill\n" + "\n".join(f"{i},{i % 2}" for i in range(20)) + "\n"
    for site in ("a", "b"):
        (folder / f"{site}.csv").write_text(good)
    (folder / "broken.csv").write_text("x,ill\n1,0\nJane Doe,1\n2,1\n" + "3,0\n" * 9)
    sets = [*overrides, 'task.columns={target="ill", numeric=["*"]}', "federation.min_clients=2"]
    sets.append(PAIRS)
    sets += [f'data.path="{folder}"', "simulation.partition=sites"]
    for text, reason in (
        ("x,ill\n1,0\nJane Doe,1\n2,1\n", "broken.csv:3: column 'x': not a finite number"),
        ("x,ill\n", "broken.csv: there are no rows"),
        ("y,sick\n1,0\n", "broken.csv: there is no column 'ill'; it has sick, y"),
    ):
        (folder / "broken.csv").write_text(text)
        seen = Recorder()
        result = simulate(overrides=sets, observer=seen)
        ((_, found),) = seen.refused
        assert reason in found and "Jane" not in found
        assert [row["hospital"] for row in result.comparison] == ["a", "b", "mean", "overall"]
    (folder / "broken.csv").write_text("x,z,ill\n1,0,1\n" + "1,1,0\n" * 9)
    result = simulate(overrides=sets)  # one column more isn't used, and stops nobody
    assert [row["hospital"] for row in result.comparison][:3] == ["a", "b", "broken"]


def test_split_is_the_same_however_often_it_is_asked() -> None:
    from wardround.common.tasks.tabular import TabularTask

    task, config = TabularTask(), parse_config("")
    raw = task.load(None)
    one, two = (split_rows(task, raw, config, bytes(32)) for _ in range(2))
    assert all((one[k] == two[k]).all() for k in one)


def test_undeclared_categories_are_agreed_and_no_message_tells_whose(
    tmp_path: Path, overrides, monkeypatch
) -> None:
    """Each hospital has a ward of its own; the vocabulary is the union, and none of the wards'
    names is in any reply, while the totals are those of the plain run."""
    from wardround.simulations.clients import Clients

    folder = tmp_path / "sites"
    folder.mkdir()
    for site, ward in (("a", "Oncology"), ("b", "Cardiology"), ("c", "Geriatrics")):
        rows = [f"{i % 7},{ward if i % 2 else 'Surgery'},{i % 2}" for i in range(30)]
        (folder / f"{site}.csv").write_text("x,ward,ill\n" + "\n".join(rows) + "\n")
    sent: list[bytes] = []
    answer = Clients.answer

    def heard(self, message):
        reply = answer(self, message)
        if message.metadata.message_type != "query.describe":
            for record in reply.content.values():
                sent.extend(v for v in record.values() if isinstance(v, bytes))
        return reply

    monkeypatch.setattr(Clients, "answer", heard)
    sets = [*overrides, f'data.path="{folder}"', "simulation.baselines=false"]
    sets.append('task.columns={target="ill", numeric=["x"], categorical=["ward"]}')
    secure = simulate(overrides=sets)
    # Whole names only: among 2.4 MB of masked bytes a word of four letters turns up by itself.
    words = [name.encode() for name in ("Oncology", "Cardiology", "Geriatrics", "Surgery")]
    assert len(sent) > 20 and not any(word in data for data in sent for word in words)
    plain = simulate(overrides=[*sets, PLAIN])
    totals = [
        read_tensors(r.run_directory / "model" / "preparation.safetensors")[0]
        for r in (secure, plain)
    ]
    wards = {
        key: float(value[0]) for key, value in totals[0].items() if key.startswith("category/")
    }
    assert set(wards) == {
        f"category/ward/{w}" for w in ("Cardiology", "Geriatrics", "Oncology")
    } | {"category/ward/Surgery"}
    assert wards == {k: float(totals[1][k][0]) for k in wards}


def test_a_task_table_beside_a_task_object_is_refused(line: type, tmp_path: Path) -> None:
    text = "[federation]\nrounds = 1\n[task]\nname = 'tabular'\n"
    with pytest.raises(ConfigError, match="task: has no effect beside simulate"):
        simulate(parse_config(text), task=line())
    with pytest.raises(ConfigError, match="task: has no effect beside simulate"):
        simulate(overrides=["task.kind=regression"], task=line())


def test_a_run_says_that_it_has_not_converged_and_a_fitted_one_nothing(tmp_path: Path) -> None:
    """T6: also in its report."""
    found = {}
    for lr in (0.0005, 0.5):
        done = simulate(
            overrides=[
                f"federation.runs={tmp_path / str(lr)}",
                f"training.lr={lr}",
                "federation.rounds=20",
                "training.local_steps=2",
                ALONE,
                PLAIN,
            ]
        )
        page = (done.run_directory / "report.html").read_text("utf-8")
        found[lr] = "It has not converged: the training loss was still falling" in page
        assert ("is fitted to its end" in page) is found[lr]
    assert found == {0.0005: True, 0.5: False}
