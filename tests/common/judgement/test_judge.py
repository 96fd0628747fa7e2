"""Figures by group are those of the pooled rows: fairlearn's, scikit-learn's, or a closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    equal_opportunity_difference,
    equalized_odds_difference,
    false_positive_rate,
    selection_rate,
)
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    mean_absolute_error,
    precision_score,
    recall_score,
    roc_auc_score,
)

from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, DataError
from wardround.common.figures.sums import Sums, add_sums
from wardround.common.figures.survival import survival_figures, survival_sums
from wardround.common.judgement.judge import Judge, check_judgement
from wardround.common.tasks.data.table import Table

GROUPS = np.array(["F", "M", "M", "F", "F", "d"])
KINDS = {
    "binary": "",
    "multiclass": 'kind = "multiclass"\nclasses = ["a", "b", "c"]\n',
    "regression": 'kind = "regression"\n',
    "survival": 'kind = "survival"\n',
}
TARGET = 'target = "y"'
COLUMNS = {"survival": 'event = "died"\ntime = "days"'}


def settings(kind: str = "binary", judged: str = "", more: str = "") -> Config:
    return parse_config(
        f"{more}\n[task]\n{KINDS[kind]}[task.columns]\n"
        f'{COLUMNS.get(kind, TARGET)}\nnumeric = ["x"]\n'
        '[judgement]\ngroups = ["sex", "age"]\nbands = { age = [40, 65] }\n'
        f'categories = {{ sex = ["F", "M"] }}\n{judged}'
    )


class Rows:
    """Rows of three hospitals, their outputs and targets."""

    def __init__(self, kind: str, rows: int = 900) -> None:
        generator = np.random.default_rng(5)
        self.sex = GROUPS[generator.integers(0, 6, rows)]
        self.age = generator.integers(18, 95, rows).astype(float)
        self.age[generator.random(rows) < 0.02] = np.nan
        shift = 0.6 * (self.sex == "F")
        width = 3 if kind == "multiclass" else 1
        self.outputs = torch.tensor(generator.normal(size=(rows, width)) + shift[:, None]).float()
        first = self.outputs[:, 0].double().numpy()
        chance = 1 / (1 + np.exp(-1.3 * first + shift))
        if kind == "binary":
            truth = (generator.random(rows) < chance).astype(np.float32)
        elif kind == "multiclass":
            noisy = self.outputs.numpy() + generator.gumbel(size=(rows, 3))
            truth = noisy.argmax(axis=1)
        elif kind == "regression":  # standardised value and deviation
            truth = np.stack([first + generator.normal(size=rows), np.full(rows, 12.5)], axis=1)
        else:
            days = generator.exponential(np.exp(-first)).round(2)
            truth = np.stack([days, generator.random(rows) < 0.7], axis=1)
        self.targets = torch.tensor(truth if kind == "multiclass" else truth.astype(np.float32))
        self.hospital = generator.integers(0, 3, rows)

    def table(self, rows: Any) -> Table:
        ages = ["" if np.isnan(one) else f"{one:g}" for one in self.age[rows]]
        return Table.of({"sex": self.sex[rows], "age": np.array(ages)}, "rows")

    def sums(self, judge: Judge) -> Sums:
        parts = []
        for number in range(3):
            here = self.hospital == number
            outputs, targets = self.outputs[here], self.targets[here]
            parts.append(judge.sums([self.table(here)], outputs, targets))
        return add_sums(parts)


def judged(kind: str, more: str = "") -> tuple[Rows, dict[str, Any]]:
    config, rows = settings(kind, more), Rows(kind)
    judge = Judge.of(config, make_task(config), {})
    sums = rows.sums(judge)
    assert {name: value.shape for name, value in sums.items()} == judge.shapes()
    return rows, judge.judgement(sums, "m", 3)


def by_name(column: dict[str, Any], level: str = "figures") -> dict[str, Any]:
    return {one["name"]: one for one in column[level]}


def test_rates_are_fairlearns_and_areas_scikit_learns() -> None:
    rows, found = judged("binary", "threshold = 0.4")
    scores = torch.sigmoid(rows.outputs.double()[:, 0]).numpy()
    truth, predicted = rows.targets.numpy(), (scores >= 0.4).astype(int)
    band = np.where(np.isnan(rows.age), "unknown", np.digitize(rows.age, [40, 65]).astype(str))
    names = {"0": "below 40", "1": "40 to below 65", "2": "65 and above", "unknown": "unknown"}
    sex = np.where(rows.sex == "d", "other or unknown", rows.sex)
    for column, groups in zip(found["columns"], (sex, np.vectorize(names.get)(band)), strict=True):
        blocks = by_name(column)
        if column["column"] == "sex":  # nobody's is missing, and that is not told
            assert list(blocks) == ["F", "M", "other or unknown"]
        else:  # few have no age
            assert list(blocks) == ["below 40", "40 to below 65", "65 and above or unknown"]
            groups = np.where(np.isin(groups, ["65 and above", "unknown"]), list(blocks)[2], groups)
        frame = MetricFrame(
            metrics={
                "sensitivity": recall_score,
                "precision": precision_score,
                "accuracy": accuracy_score,
                "selection_rate": selection_rate,
                "false_positive_rate": false_positive_rate,
            },
            y_true=truth,
            y_pred=predicted,
            sensitive_features=groups,
        )
        for name, block in blocks.items():
            for figure, value in frame.by_group.loc[name].items():
                assert block[figure] == pytest.approx(value, abs=1e-12), (name, figure)
            here = groups == name
            assert block["rows"] == here.sum()
            assert block["prevalence"] == pytest.approx(truth[here].mean(), abs=1e-12)
            area = roc_auc_score(truth[here], scores[here])
            assert abs(block["auc"] - area) <= block["auc_error_bound"] + 1e-12 < 0.01
            low, high = block["auc_interval"]
            assert low < area < high
            assert block["brier"] == pytest.approx(brier_score_loss(truth[here], scores[here]))
            off = (scores[here] - truth[here]).mean()
            assert block["calibration_in_the_large"] == pytest.approx(off, abs=1e-12)
        usual = {"y_true": truth, "y_pred": predicted, "sensitive_features": groups}
        for function in (
            demographic_parity_difference,
            equal_opportunity_difference,
            equalized_odds_difference,
        ):
            assert column["gaps"][function.__name__] == pytest.approx(function(**usual), abs=1e-12)


def test_other_kinds_have_what_has_a_meaning() -> None:
    rows, found = judged("multiclass")
    right = rows.outputs.numpy().argmax(axis=1) == rows.targets.numpy()
    blocks = by_name(found["columns"][0])
    assert blocks["F"]["accuracy"] == pytest.approx(right[rows.sex == "F"].mean(), abs=1e-12)
    assert "auc" not in blocks["F"] and "outcomes" not in found["columns"][0]
    rows, found = judged("regression")
    values, (truth, _) = rows.outputs[:, 0].numpy() * 12.5, rows.targets.numpy().T
    here = rows.sex == "M"
    mae = mean_absolute_error(truth[here] * 12.5, values[here])
    assert by_name(found["columns"][0])["M"]["mae"] == pytest.approx(mae, rel=1e-6)
    rows, found = judged("survival")
    pairs = []  # of rows of one hospital and group
    for number in range(3):
        here = (rows.sex == "F") & (rows.hospital == number)
        risk, (days, died) = rows.outputs[here, 0].numpy(), rows.targets[here].numpy().T
        pairs.append(survival_sums(risk, days, died))
    own = survival_figures(add_sums(pairs))
    column = found["columns"][0]
    assert by_name(column)["F"]["c_index"] == pytest.approx(own["c_index"], abs=1e-12)
    assert by_name(column, "outcomes")["F"]["events"] == own["events"]


def test_persons_of_many_rows_are_few() -> None:
    """A hundred rows of four persons are no group of five."""
    config = settings(more="")
    text = config.to_toml().replace('numeric = ["x"]', 'numeric = ["x"]\npatient_id = "who"')
    config = parse_config(text.replace("numeric = [\n", 'patient_id = "who"\nnumeric = [\n'))
    task = make_task(config)
    assert task.options.columns.patient_id == "who"
    sex = np.repeat(["F", "M"], [200, 100])
    who = np.array([f"p{n}" if n < 200 else f"q{n % 4}" for n in range(300)])
    table = Table.of({"sex": sex, "age": np.full(300, 50.0), "who": who}, "rows")
    truth = torch.tensor(np.arange(300) % 2).float()
    judge = Judge.of(config, task, {})
    sums = judge.sums([table], torch.linspace(-2, 2, 300)[:, None], truth)
    assert {name: value.shape for name, value in sums.items()} == judge.shapes()
    found = judge.judgement(sums, "m", 1)["columns"][0]
    assert [one["name"] for one in found["rows"]] == ["F or M or other or unknown"]
    assert sums["judged/sex/persons"].sum() == 204 and sums["judged/sex/cells"][1].sum() == 100


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (settings(more="secure_aggregation.enabled = false"), "without masks the server has"),
        (settings(more='privacy.unit = "example"\nprivacy.epsilon = 3.0'), "exact sums, of few"),
        (settings(more='strategy.personal_layers = ["x"]'), "there is no one model to be judged"),
        (settings(more='procedure.name = "describe"'), "has no effect with procedure 'describe'"),
    ],
)
def test_what_does_not_go_with_a_judgement_is_refused_by_key(config: Config, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_judgement(config, make_task(config))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('groups = ["ward"]', "'ward' has no groups: it is no categorical input"),
        ('groups = ["sex", "sex"]', "a column stands there twice"),
        ('groups = ["sex"]\nbands = { age = [1] }', "'age' is none of judgement.groups"),
        ('groups = ["age"]\nbands = { age = [3, 2] }', "'age': 1 to 49 numbers that rise"),
        ('groups = ["sex"]\ncategories = { sex = ["a", "a"] }', "'sex': 1 to 50 different texts"),
        ('groups = ["who"]\ncategories = { who = ["a"] }', "'who' says whose a row is"),
        ('groups = ["sex"]\nsmallest_cell = 2', "greater than or equal to 3"),
    ],
)
def test_groups_are_named(table: str, words: str) -> None:
    task = '[task.columns]\ntarget = "y"\nnumeric = ["x"]\npatient_id = "who"\n'
    with pytest.raises(ConfigError, match=words):
        config = parse_config(f"{task}[judgement]\n{table}\n")
        check_judgement(config, make_task(config))


def test_groups_are_told_by_every_spelling_of_codes() -> None:
    config = parse_config(
        '[task.columns]\ntarget = "y"\nnumeric = ["x"]\ncategorical = ["sex"]\n'
        'codes = { sex = { female = ["F", "w"], male = ["M"] } }\n[judgement]\ngroups = ["sex"]\n'
    )
    totals = {f"category/sex/{name}": np.array([9.0]) for name in ("female", "male")}
    judge = Judge.of(config, make_task(config), totals)
    table = Table.of({"sex": np.array(["F", "w", "female", "M", "d", ""])}, "rows")
    sums = judge.sums([table], torch.zeros(6, 1), torch.zeros(6))
    rows = sums["judged/sex/cells"].sum(axis=(1, 2)).tolist()
    assert dict(zip(judge.columns[0].groups, rows, strict=True)) == {
        "female": 3, "male": 1, "other": 1, "unknown": 1
    }  # fmt: skip


def test_a_task_without_columns_is_refused_and_so_is_a_hospital_without_the_column() -> None:
    config = parse_config('[task]\nname = "imaging"\n[judgement]\ngroups = ["sex"]\n')
    with pytest.raises(ConfigError, match="are columns of a table's rows"):
        check_judgement(config, make_task(config))
    config, rows = settings(), Rows("binary", 30)
    judge = Judge.of(config, make_task(config), {})
    with pytest.raises(DataError, match="sex"):
        table = Table.of({"age": rows.age}, "rows")
        judge.sums([table], rows.outputs, rows.targets)
