"""Preparation from sums equals preparation on pooled rows; losses and errors as promised."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.preprocessing import StandardScaler

from tests.common.tasks.made import table
from wardround.common.errors import DataError, TaskError
from wardround.common.figures.sums import add_sums
from wardround.common.tasks import features
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.losses import cox_loss
from wardround.common.tasks.options import ModelOptions
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.tabular_model import make_model


def agree(task: TabularTask, shards: list[Table]) -> dict:
    """The federated preparation, without the server."""
    totals: dict = {}
    for phase in range(task.phases):
        totals |= add_sums([task.statistics(shard, phase, totals) for shard in shards])
    return task.condense(totals)


def test_a_small_spread_around_a_large_mean_does_not_cancel() -> None:
    """Sums of squares of 1e9 + 0..9 agree in all of float64's digits; only centred ones differ."""
    values = 1e9 + np.arange(10.0)
    task = TabularTask(columns={"target": "y"})
    shards = [
        table(x=[repr(float(v)) for v in part], y=["0"] * len(part))
        for part in (values[:3], values[3:])
    ]
    assert agree(task, shards)["numeric/x/std"][0] == pytest.approx(values.std(), rel=1e-9)


numbers = st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=2, max_size=60)


@settings(deadline=None, max_examples=80)
@given(values=numbers, cut=st.floats(0, 1), offset=st.sampled_from([0.0, 1e9]))
def test_mean_deviation_and_median_are_those_of_the_pooled_rows(values, cut, offset) -> None:
    pooled = np.array(values) + offset
    where = int(cut * len(values))
    task = TabularTask(columns={"target": "y"})
    shards = [
        table(x=[repr(float(v)) for v in part], y=["0"] * len(part))
        for part in (pooled[:where], pooled[where:])
        if len(part)
    ]
    totals = agree(task, shards)
    mean, std = pooled.mean(), pooled.std()
    assume(not 1e-6 < std <= 1.001e-12 * abs(mean))  # so little is taken for the mean's rounding
    assert totals["numeric/x/mean"][0] == pytest.approx(mean, rel=1e-9, abs=1e-6)
    assert totals["numeric/x/std"][0] == pytest.approx(std, rel=1e-6, abs=1e-5)
    median = totals["numeric/x/median"][0]
    assert abs(median - np.median(pooled)) <= std / features.MEDIAN_BINS * (1 + 1e-6) + 1e-6


# Whole thousandths: beside 0, scikit-learn calls a column of 5e-79 constant by its own threshold.
VALUES = st.integers(-100_000, 100_000).map(lambda thousandths: thousandths / 1000)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.none(), VALUES),
            st.sampled_from(["", "red", "green", "blue"]),
            st.sampled_from(["", "yes", "no"]),
        ),
        min_size=12,
        max_size=50,
    ),
    cut=st.integers(1, 11),
    encoding=st.sampled_from(["one_hot", "dummy"]),
)
def test_features_equal_scikit_learns_on_the_pooled_rows(rows, cut, encoding) -> None:
    x = ["" if v is None else repr(v) for v, _, _ in rows]
    data = {"x": x, "colour": [c for _, c, _ in rows], "ill": [b for _, _, b in rows]}
    whole = table(**data, y=["1"] * len(rows))
    options = {
        "columns": {"target": "y", "categorical": ["colour"], "binary": ["ill"]},
        "encoding": encoding,
        "min_category_count": 1,
    }
    task = TabularTask(**options)
    parts = [whole.select(np.arange(cut)), whole.select(np.arange(cut, len(rows)))]
    totals = agree(task, parts)
    prepared = torch.cat([task.prepare(part, totals, part).inputs for part in parts]).numpy()

    values = np.array([np.nan if v is None else v for v, _, _ in rows])
    known = values[~np.isnan(values)]
    expected = np.zeros(len(rows))
    if len(known):
        scaler = StandardScaler().fit(known.reshape(-1, 1))
        scale = scaler.scale_[0] if known.std() > 1e-12 * abs(known.mean()) else 1.0
        filled = np.where(np.isnan(values), totals["numeric/x/median"][0], values)
        expected = (filled - scaler.mean_[0]) / scale
    np.testing.assert_allclose(prepared[:, 0], expected, atol=1e-4)
    ones = [b == "yes" for _, _, b in rows]
    mode = sum(ones) > sum(b != "" for _, _, b in rows) / 2
    np.testing.assert_array_equal(
        prepared[:, 1], [mode if b == "" else b == "yes" for _, _, b in rows]
    )
    words = sorted({c for _, c, _ in rows} - {""})[1 if encoding == "dummy" else 0 :]
    indicators = [[c == word for word in words] for _, c, _ in rows]
    np.testing.assert_array_equal(
        prepared[:, 2:], np.array(indicators, float).reshape(len(rows), len(words))
    )
    assert features.feature_names(totals, task.options) == [
        "x",
        "ill",
        *(f"colour={w}" for w in words),
    ]
    model = task.model(totals)
    assert model(torch.from_numpy(prepared)).shape == (len(rows), 1)


def test_local_normalisation_is_each_hospitals_own_and_sends_no_sums() -> None:
    task = TabularTask(columns={"target": "y"}, normalise="local")
    here = table(x=["1", "3", ""], y=["0", "1", "0"])
    assert set(task.statistics(here, 0, {})) == {"numeric/x/count", "rows"}
    totals = agree(task, [here, table(x=["100", "200"], y=["0", "1"])])
    inputs = task.prepare(here, totals, here).inputs
    std = np.std([1.0, 3.0, 2.0])
    np.testing.assert_allclose(inputs[:, 0], [-1 / std, 1 / std, 0], rtol=1e-6)


def test_rare_categories_are_not_sent_and_do_not_become_inputs() -> None:
    colours = ["red"] * 5 + ["blue"] * 6 + ["unique"]
    shard = table(x=["1"] * 12, colour=colours, y=["1", "0"] * 6)
    task = TabularTask(columns={"target": "y", "categorical": ["colour"]})
    sums = task.statistics(shard, 0, {})
    assert not any("unique" in key for key in sums)
    prepared = task.prepare(shard, agree(task, [shard]), shard)
    assert prepared.inputs.shape == (12, 3)
    assert prepared.inputs[11, 1:].tolist() == [0, 0]


def test_odd_column_names_and_categories_survive() -> None:
    shard = table(**{"a/b c%": ["1", "2"], "d/é": ["x/y", "z %"], "y": ["0", "1"]})
    task = TabularTask(columns={"target": "y", "categorical": ["d/é"]}, min_category_count=1)
    totals = agree(task, [shard])
    names = features.feature_names(totals, task.options)
    assert names == ["a/b c%", "d/é=x/y", "d/é=z %"]


@pytest.mark.parametrize(
    ("shard", "options", "message"),
    [
        (
            table(x=["1", "2"], c=["a", "Jane"], y=["0", "1"]),
            {"columns": {"target": "y", "categorical": ["c"], "categories": {"c": ["a", "b"]}}},
            "x.csv:3: column 'c': the category is not in task.columns.categories",
        ),
        (
            table(x=["1", ""], y=["0", "1"]),
            {"columns": {"target": "y"}, "missing": "refuse"},
            "x.csv:3: column 'x': the value is missing",
        ),
        (
            table(x=["1", "Jane"], y=["0", "1"]),
            {"columns": {"target": "y"}},
            "x.csv:3: column 'x': not a finite number",
        ),
        (
            table(x=["1", "2"], c=["a", "Jane " * 30], y=["0", "1"]),
            {"columns": {"target": "y", "categorical": ["c"]}, "min_category_count": 1},
            "x.csv:3: column 'c': a category longer than 60",
        ),
    ],
)
def test_a_bad_cell_is_named_and_not_quoted(shard, options, message) -> None:
    task = TabularTask(**options)
    with pytest.raises(DataError) as caught:
        task.prepare(shard, agree(task, [shard]), shard)
    assert message in str(caught.value) and "Jane" not in str(caught.value)


def test_columns_that_differ_between_hospitals_are_named() -> None:
    task = TabularTask(columns={"target": "y"})
    both = table(x=["1", "2"], z=["1", "2"], y=["0", "1"])
    one = table(x=["1", "2"], y=["0", "1"])
    with pytest.raises(DataError, match="x.csv: there is no column 'z'"):
        agree(task, [both, one])
    totals = agree(task, [one])
    assert task.prepare(both, totals, both).inputs.shape == (2, 1)  # z is not used, and told
    assert task.unused(both, totals)[0].startswith("column 'z' is not used")
    assert task.unused(one, totals) == []


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "north.csv"
    path.write_text(text)
    return path


def test_loading_drops_what_it_must_and_says_so(tmp_path: Path) -> None:
    path = csv(tmp_path, "x,y\n1,0\n2,\n,1\n4,0\n")
    task = TabularTask(columns={"target": "y"}, missing="drop")
    raw = task.load(path)
    assert len(raw) == 2
    assert [str(one) for one in task.left_out(raw)] == [
        "1 row was left out: column 'y' is empty",
        "1 row was left out: an input is missing (task.missing = 'drop')",
    ]
    assert task.left_out(task.select(raw, np.arange(2))) == ()  # else told once for each part
    assert task.warnings(raw) == [
        "all training rows have the same target: it learns from the others only",
    ]
    with pytest.raises(DataError, match="no row has a target"):
        task.load(csv(tmp_path, "x,y\n1,\n"))
    with pytest.raises(DataError, match="north.csv:2: column 'y': not 0/1.*task.positive"):
        task.load(csv(tmp_path, "x,y\n1,Jane\n"))
    with pytest.raises(DataError, match="no column 'y'; it has x, z; name one so"):
        task.load(csv(tmp_path, "x,z\n1,2\n"))
    positive = TabularTask(columns={"target": "y"}, positive=["ill", "very ill"])
    assert positive.labels(positive.load(csv(tmp_path, "x,y\n1,ill\n2,well\n"))).tolist() == [1, 0]


def test_a_column_that_is_mostly_missing_is_a_warning() -> None:
    task = TabularTask(columns={"target": "y"})
    shard = table(x=["1", "", ""], z=["", "", ""], y=["0", "1", "1"])
    assert task.warnings(shard) == [
        "column 'x' is 67% missing",
        "column 'z' is wholly missing",
    ]


@pytest.mark.parametrize(
    ("kind", "targets", "outputs", "figure"),
    [
        ("binary", ["0", "1", "1", "0"], 1, "auc"),
        ("multiclass", ["low", "high", "mid", "low"], 3, "accuracy"),
        ("regression", ["0.5", "2", "-1", "3"], 1, "rmse"),
    ],
)
def test_each_kind_trains_and_is_measured(kind, targets, outputs, figure) -> None:
    least = {"min_category_count": 1} if kind == "multiclass" else {}
    mlp = {"kind": "mlp", "hidden": [4]}
    task = TabularTask(kind=kind, columns={"target": "y"}, model=mlp, **least)
    shard = table(x=["1", "2", "3", "4"], y=targets)
    totals = agree(task, [shard])
    examples = task.prepare(shard, totals, shard)
    model = task.model(totals)
    logits = model(examples.inputs)
    assert logits.shape == (4, outputs)
    losses = task.loss(logits, examples.targets)
    assert losses.shape == (4,) and torch.isfinite(losses).all()
    losses.mean().backward()
    figures = task.summarise(task.metrics(logits.detach(), examples.targets))
    assert math.isfinite(figures[figure]) and task.primary_metric == figure
    assert figures["loss"] == pytest.approx(float(losses.detach().mean()), rel=1e-5)
    whole = task.metrics(logits.detach(), examples.targets)
    halves = [task.metrics(logits.detach()[i : i + 2], examples.targets[i : i + 2]) for i in (0, 2)]
    added = add_sums(halves)
    for key, value in whole.items():
        np.testing.assert_allclose(added[key], value, rtol=1e-6, atol=1e-9)


def test_survival_end_to_end() -> None:
    task = TabularTask(
        kind="survival", columns={"target": None, "time": "t", "event": "e"}, normalise="none"
    )
    shard = table(x=["3", "2", "1"], t=["1", "2", "3"], e=["1", "1", "0"])
    totals = agree(task, [shard])
    examples = task.prepare(shard, totals, shard)
    assert examples.targets.tolist() == [[1, 1], [2, 1], [3, 0]]
    figures = task.summarise(task.metrics(examples.inputs, examples.targets))
    assert figures["c_index"] == 1.0 and task.coupled_examples
    with pytest.raises(DataError, match="a negative time"):
        bad = table(x=["1"], t=["-1"], e=["1"])
        task.prepare(bad, totals, bad)


def test_cox_loss_by_hand() -> None:
    """Three patients, times 1, 2, 3, events 1, 1, 0, risks ln 2, 0, 0 (so exp: 2, 1, 1).

    Patient 1: log(2 + 1 + 1) - log 2 = log 2. Patient 2: log(1 + 1) - 0 = log 2. Patient 3: 0.
    """
    risk = torch.tensor([math.log(2.0), 0.0, 0.0])
    terms = cox_loss(risk, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(terms, [math.log(2), math.log(2), 0], rtol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 6), st.booleans()), min_size=1, max_size=15)
)
def test_cox_loss_equals_the_double_loop_with_ties(rows) -> None:
    risk = torch.tensor([r for r, _, _ in rows], dtype=torch.float64)
    time = torch.tensor([float(t) for _, t, _ in rows])
    event = torch.tensor([float(e) for _, _, e in rows], dtype=torch.float64)
    expected = [
        (math.log(sum(math.exp(r2) for r2, t2, _ in rows if t2 >= t)) - r) if e else 0.0
        for r, t, e in rows
    ]
    np.testing.assert_allclose(cox_loss(risk, time, event), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "survival"}, "needs columns.time"),
        ({"columns": {"target": None}}, "needs columns.target"),
        ({"columns": {"target": "y", "binary": ["y"]}}, "'y' has two meanings"),
        ({"columns": {"target": "y", "numeric": ["*", "x"]}}, "name no others"),
        ({"columns": {"target": "y", "categories": {"c": ["a", "b"]}}}, "not a categorical one"),
        ({"classes": ["a", "b"]}, "kind = 'multiclass'"),
        ({"kind": "multiclass", "positive": ["a"]}, "kind = 'binary'"),
        ({"model": {"kind": "mlp", "hidden": [0]}}, "greater than or equal to 1"),
        ({"colums": {}}, "Extra inputs"),
    ],
)
def test_options_that_do_not_fit(options, message) -> None:
    with pytest.raises(ValidationError, match=message):
        TabularTask(**options)


def test_heart_disease_as_flamby_prepares_it(data_folder: Path) -> None:
    names = "age sex cp trestbps chol fbs restecg thalach exang oldpeak slope ca thal num".split()
    task = TabularTask(
        dialect={"header": names},
        columns={
            "target": "num",
            "numeric": ["age", "trestbps", "chol", "thalach", "oldpeak"],
            "binary": ["sex", "fbs", "exang"],
            "categorical": ["cp", "restecg"],
            "ignore": ["slope", "ca", "thal"],
        },
        positive=["1", "2", "3", "4"],
        missing="drop",
        encoding="dummy",
        normalise="local",
        normalise_encoded=True,
        min_category_count=1,
    )
    folder = data_folder / "heart_disease"
    sites = [
        folder / f"processed.{n}.data" for n in ("cleveland", "hungarian", "switzerland", "va")
    ]
    shards = [task.load(path) for path in sites]
    assert [len(shard) for shard in shards] == [303, 261, 46, 130]
    totals = agree(task, shards)
    for shard in shards:
        inputs = task.prepare(shard, totals, shard).inputs.numpy()
        assert inputs.shape == (len(shard), 13)
        np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-5)


def test_the_built_in_data_from_table_to_figures() -> None:
    """The whole thin path, against scikit-learn's own scaling and area under the curve."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.metrics import roc_auc_score

    task = TabularTask()
    raw = task.load(None)
    known = load_breast_cancer()
    assert len(raw) == 569 and task.labels(raw).sum() == (known.target == 0).sum() == 212
    shards = [raw.select(np.arange(start, 569, 3)) for start in range(3)]
    totals = agree(task, shards)
    examples = task.prepare(raw, totals, raw)
    order = np.argsort(known.feature_names)
    expected = StandardScaler().fit_transform(known.data)[:, order]
    np.testing.assert_allclose(examples.inputs, expected, atol=2e-5)
    model = task.model(totals)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(100):
        optimiser.zero_grad()
        task.loss(model(examples.inputs), examples.targets).mean().backward()
        optimiser.step()
    outputs = model(examples.inputs).detach()
    sums = [
        task.metrics(outputs[start::3], examples.targets[start::3]) for start in range(3)
    ]  # as from three hospitals
    figures = task.summarise(add_sums(sums))
    assert figures["auc"] == pytest.approx(
        roc_auc_score(1 - known.target, outputs[:, 0].numpy()),
        abs=figures["auc_error_bound"] + 1e-9,
    )
    assert figures["auc"] > 0.99 and figures["examples"] == 569


def test_one_configuration_serves_hospitals_with_different_spare_columns(tmp_path: Path) -> None:
    task = TabularTask(columns={"target": "y", "ignore": ["comment"]})
    with_comment = task.load(csv(tmp_path, "x,comment,y\n1,Jane,0\n2,,1\n"))
    without = task.load(csv(tmp_path, "x,y\n1,0\n2,1\n"))
    totals = agree(task, [with_comment, without])
    assert features.feature_names(totals, task.options) == ["x"]
    assert len(task.prepare(without, totals, without)) == 2


def test_survival_needs_no_target_column(tmp_path: Path) -> None:
    path = csv(tmp_path, "x,t,e\n1,1,0\n2,1,1\n")
    task = TabularTask(kind="survival", columns={"time": "t", "event": "e"})
    assert len(task.load(path)) == 2
    asked = TabularTask(kind="survival", columns={"time": "t", "event": "e", "target": "malignant"})
    with pytest.raises(DataError, match="no column 'malignant'"):
        asked.load(path)


def test_codes_in_options_match_codes_in_files(tmp_path: Path) -> None:
    """An export writes 1 or 1.0: neither in the file nor in the options may it matter."""
    for text in ("x,y\n1,1.0\n2,0.0\n3,2\n", "x,y\n1,1\n2,0\n3,2.0\n"):
        path = csv(tmp_path, text)
        for one in ("1", "1.0"):
            positive = TabularTask(columns={"target": "y"}, positive=[one], negative=["0", "2"])
            assert positive.labels(positive.load(path)).tolist() == [1, 0, 0]
            classes = TabularTask(
                kind="multiclass", columns={"target": "y"}, classes=["2.0", "0", one]
            )
            raw = classes.load(path)
            assert classes.labels(raw).tolist() == [2, 1, 0]
            assert classes.prepare(raw, agree(classes, [raw]), raw).targets.tolist() == [2, 1, 0]


def test_a_class_outside_the_declared_ones_is_named_at_loading(tmp_path: Path) -> None:
    task = TabularTask(kind="multiclass", columns={"target": "y"}, classes=["a", "b"])
    with pytest.raises(DataError, match=r"north\.csv:3: column 'y'") as caught:
        task.load(csv(tmp_path, "x,y\n1,a\n2,Jane\n"))
    assert "Jane" not in str(caught.value)


def test_classes_of_hospitals_that_lack_some_get_the_same_index() -> None:
    task = TabularTask(kind="multiclass", columns={"target": "y"}, min_category_count=1)
    here, there = table(x=["1", "2"], y=["c", "a"]), table(x=["1", "2"], y=["b", "c"])
    totals = agree(task, [here, there])
    assert task.prepare(here, totals, here).targets.tolist() == [2, 0]
    assert task.prepare(there, totals, there).targets.tolist() == [1, 2]
    assert task.model(totals)(torch.zeros(1, 1)).shape == (1, 3)


def test_sites_are_readable_files_and_folders(tmp_path: Path) -> None:
    for name in ("south.csv", "north.data", "SOURCE.txt", ".hidden.csv", "notes.md"):
        (tmp_path / name).write_text("x,y\n1,0\n")
    (tmp_path / "west.1").mkdir()
    sites = TabularTask().sites(tmp_path)
    assert list(sites) == ["north", "south", "west.1"]
    assert sites["north"] == tmp_path / "north.data"
    (tmp_path / "south").mkdir()
    with pytest.raises(DataError, match="hospital 'south' like south; rename one"):
        TabularTask().sites(tmp_path)


def test_labels_of_a_regression_are_quarters_also_of_no_rows() -> None:
    task = TabularTask(kind="regression", columns={"target": "y"})
    shard = table(x=["0"] * 8, y=[str(value) for value in range(8)])
    assert task.labels(shard).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert task.labels(shard.select(np.array([], dtype=np.int64))).tolist() == []


def test_patients_and_given_split(tmp_path: Path) -> None:
    task = TabularTask(columns={"target": "y", "patient_id": "p", "split": "s"})
    raw = task.load(csv(tmp_path, "x,y,p,s\n1,0,A,train\n2,1,A,train\n3,1,B,test\n"))
    assert task.patients(raw).tolist() == ["A", "A", "B"]  # type: ignore[union-attr]
    assert task.given_split(raw).tolist() == ["train", "train", "test"]  # type: ignore[union-attr]
    totals = agree(task, [raw])
    assert features.feature_names(totals, task.options) == ["x"]  # neither is an input
    raw = task.load(csv(tmp_path, "x,y,p,s\n1,0,A,train\n2,1,,Jane\n"))
    with pytest.raises(DataError, match=r"north\.csv:3: column 'p'"):
        task.patients(raw)
    with pytest.raises(DataError, match=r"north\.csv:3: column 's'") as caught:
        task.given_split(raw)
    assert "Jane" not in str(caught.value)


def test_a_model_that_can_not_be_built_says_why() -> None:
    shard = table(x=["1", "2"], y=["0", "0"])
    bare = TabularTask(columns={"target": "y", "numeric": []})
    with pytest.raises(TaskError, match="no inputs"):
        bare.model(agree(bare, [shard]))
    single = TabularTask(kind="multiclass", columns={"target": "y"})
    with pytest.raises(TaskError, match="fewer than two classes"):
        single.model(agree(single, [shard]))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "survival"])
def test_no_examples_give_no_figures_and_a_diverged_model_is_an_error(kind: str) -> None:
    columns = {"time": "t", "event": "e"} if kind == "survival" else {"target": "y"}
    task = TabularTask(kind=kind, columns=columns)
    width = 3 if kind == "multiclass" else 1
    targets = torch.zeros((2, 2) if kind in ("survival", "regression") else 2)
    targets = targets.long() if kind == "multiclass" else targets
    figures = task.summarise(task.metrics(torch.zeros(0, width), targets[:0]))
    assert figures["examples"] == 0 and math.isnan(figures["loss"])
    assert math.isnan(figures[task.primary_metric])
    with pytest.raises(TaskError, match="not finite"):
        task.metrics(torch.full((2, width), math.nan), targets)


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_the_mlp_has_the_layers_that_were_asked_for(norm: str) -> None:
    task = TabularTask(
        columns={"target": "y"},
        model={"kind": "mlp", "hidden": [5, 4], "dropout": 0.5, "norm": norm},
    )
    shard = table(a=["1", "2"], b=["1", "3"], y=["0", "1"])
    model = task.model(agree(task, [shard]))
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(2, 5), (5, 4), (4, 1)]
    kinds = {"none": (), "layer": (torch.nn.LayerNorm,), "batch": (torch.nn.BatchNorm1d,)}
    assert sum(isinstance(m, kinds[norm]) for m in model.modules()) == 2 * (norm != "none")
    assert sum(isinstance(m, torch.nn.Dropout) for m in model.modules()) == 2


def test_cox_loss_is_stable_and_its_mean_is_flambys() -> None:
    """FLamby: sort by falling time, -(risk - logcumsumexp(risk)) of the events, over all rows."""
    generator = torch.Generator().manual_seed(3)
    risk = torch.randn(40, generator=generator, dtype=torch.float64) * 2000
    time = torch.randperm(40, generator=generator).double()
    event = (torch.rand(40, generator=generator) < 0.6).double()
    order = torch.argsort(-time)
    flamby = -((risk[order] - torch.logcumsumexp(risk[order], 0)) * event[order]).mean()
    terms = cox_loss(risk, time, event)
    assert torch.isfinite(terms).all()
    assert float(terms.mean()) == pytest.approx(float(flamby), rel=1e-12)
    assert (terms[event == 0] == 0).all()


@pytest.mark.parametrize("kind", ["binary", "regression", "survival", "multiclass"])
def test_linear_models_start_at_zero_and_a_network_does_not(kind: str) -> None:
    """A random start of a linear model is noise that few rounds don't get rid of."""
    classes = 3 if kind == "multiclass" else 1
    linear = make_model(4, classes, ModelOptions(), bias=kind != "survival")
    assert all(not parameter.any() for parameter in linear.parameters())
    drawn = make_model(4, classes, ModelOptions(zero_init=False), bias=kind != "survival")
    network = make_model(4, classes, ModelOptions(kind="mlp", hidden=[3]))
    assert all(one.any() for model in (drawn, network) for one in model.parameters())


def test_inputs_of_other_scales_that_stay_as_they_are_are_told(tmp_path: Path) -> None:
    path = tmp_path / "north.csv"
    path.write_text("age,cost,y\n30,250000,0\n40,,1\n50,100,0\n")
    task = TabularTask(columns={"target": "y"}, normalise="none")
    (told,) = task.warnings(task.load(path))
    assert "'cost'" in told and "'age'" not in told and "task.normalise = 'federated'" in told
    scaled = TabularTask(columns={"target": "y"})
    assert scaled.warnings(scaled.load(path)) == []


def test_options_of_csv_files_are_told_where_there_is_none(tmp_path: Path) -> None:
    task = TabularTask(dialect={"delimiter": ";"})
    assert any("task.dialect.delimiter has no effect" in x for x in task.warnings(task.load(None)))
    (tmp_path / "a.csv").write_text("x;malignant\n1;0\n2;1\n")
    assert not any("no effect" in x for x in task.warnings(task.load(tmp_path / "a.csv")))


@pytest.mark.parametrize(
    ("options", "works"),
    [
        ({}, False),
        ({"columns": {"categorical": ["c"], "categories": {"c": ["a", "b"]}}}, False),
        ({"kind": "multiclass", "classes": ["a", "b", "c"]}, False),
        ({"columns": {"categorical": ["c"]}}, True),
        ({"kind": "multiclass"}, True),
    ],
)
def test_a_least_count_is_for_what_is_agreed_from_counts(options: Any, works: bool) -> None:
    if works:
        TabularTask(**options, min_category_count=2)
        return
    with pytest.raises(ValidationError, match="agreed from counts"):
        TabularTask(**options, min_category_count=2)
    TabularTask(**options, min_category_count=5)
