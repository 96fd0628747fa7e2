"""Summaries, tables, correlations and tests over unlike hospitals are those of their rows together:
equal to scipy's and numpy's where exact, within what is stated elsewhere."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.common.procedures.statistics.unlike import asked, hospitals
from wardround.common.errors import ConfigError, DataError
from wardround.common.procedures.statistics.result import file_name

FRAMES = hospitals()
ROWS = pd.concat(FRAMES)
CATEGORICAL = """[task.columns]
categorical = ["sex", "stage", "event"]
[task.columns.categories]
sex = ["f", "m"]
stage = ["A", "B", "C", "D"]
event = ["0", "1"]
"""


def of(frames, *analyses, settings=CATEGORICAL, noise=0.0):
    named = [{"name": f"a{place}"} | one for place, one in enumerate(analyses)]
    files = asked(frames, *named, settings=settings, noise=noise)
    return json.loads(files["statistics.json"])["analyses"]


def lines(analysis, name=""):
    """Rows of a table as mappings; of columns named '±' each behind the one before it."""
    table = next(one for one in analysis["tables"] if one["name"] == name)
    head = [f"{table['head'][n - 1]} ±" if h == "±" else h for n, h in enumerate(table["head"])]
    return [dict(zip(head, row, strict=True)) for row in table["rows"]]


# --- summary --------------------------------------------------------------------------------------
def test_a_summary_is_numpys_within_what_it_states():
    (found,) = of(
        FRAMES, {"kind": "summary", "columns": ["age", "weight"], "categories": ["stage"]}
    )
    for line in lines(found, "numbers"):
        values = ROWS[line["column"]].dropna().to_numpy()
        assert abs(line["n"] - len(values)) <= 2
        assert abs(line["mean"] - values.mean()) <= line["mean ±"] < 0.1 * values.std()
        assert abs(line["SD"] - values.std(ddof=1)) <= line["mean ±"]
        for p in (5, 25, 50, 75, 95):
            expected = np.quantile(values, p / 100)
            assert abs(line[f"{p} %"] - expected) <= line[f"{p} % ±"] < 0.3 * values.std()
    counts = {line["level"]: line["n"] for line in lines(found, "categories")}
    for level, count in ROWS["stage"].value_counts().items():
        assert abs(counts[level] - count) <= 2
    assert counts["D"] == "< 5"  # that nobody has: nothing says so
    bins = [line for line in lines(found, "histograms") if line["column"] == "age"]
    assert sum(x["n"] for x in bins if isinstance(x["n"], int)) == pytest.approx(len(ROWS), rel=0.1)
    assert found["plots"][0]["type"] == "bars"


def test_by_groups_and_of_persons_with_several_rows():
    frames = [
        frame.assign(who=[f"{place}-{n // 3}" for n in range(len(frame))])
        for place, frame in enumerate(FRAMES)
    ]
    settings = CATEGORICAL.replace("[task.columns]\n", '[task.columns]\npatient_id = "who"\n')
    one, two = (
        of(
            frames,
            {"kind": "summary", "columns": ["age"], "by": "sex", "categories": ["stage"]},
            settings=settings,
        )[0],
        of(FRAMES, {"kind": "summary", "columns": ["age"], "by": "sex", "categories": ["stage"]})[
            0
        ],
    )
    for found in (one, two):
        for line in lines(found, "numbers"):
            values = ROWS[ROWS["sex"] == line["group"]]["age"]
            assert abs(line["mean"] - values.mean()) <= line["mean ±"]
    assert lines(one, "numbers")[0]["mean ±"] >= lines(two, "numbers")[0]["mean ±"]


def test_few_values_or_one_person_hide_a_mean():
    rare = [frame.assign(rare=0.0, cost=1.0 + np.arange(len(frame)) % 50) for frame in FRAMES]
    rare[0].loc[:3, "rare"] = 1.0  # four of 584: a mean would say so
    rare[2].loc[7, "cost"] = 1e6
    (found,) = of(
        rare,
        {"kind": "summary", "columns": ["rare", "cost"]},
    )
    first, second = lines(found, "numbers")
    assert first["mean"] is None and first["note"] == "few have one of its values"
    assert second["mean"] is None and second["note"] == "one person may be most of it"
    assert abs(second["50 %"] - pd.concat(rare)["cost"].median()) <= second["50 % ±"]
    assert [table["name"] for table in found["tables"]] == ["numbers"]  # and no histogram


# --- tables ---------------------------------------------------------------------------------------
def test_a_table_and_its_tests_are_scipys():
    (found,) = of(FRAMES, {"kind": "crosstab", "rows": "sex", "columns": "event"})
    table = pd.crosstab(ROWS["sex"], ROWS["event"]).to_numpy()
    figures = {line["figure"]: line for line in lines(found, "tests")}
    for correction, name in ((False, "chi-square"), (True, "chi-square, continuity-corrected")):
        expected = stats.chi2_contingency(table, correction=correction)
        assert (figures[name]["value"], figures[name]["p"]) == expected[:2]
    assert figures["Fisher's exact test"]["p"] == stats.fisher_exact(table)[1]
    assert figures["odds ratio"]["value"] == pytest.approx(
        table[0, 0] * table[1, 1] / table[0, 1] / table[1, 0], rel=1e-12
    )
    cells = np.array([[line["0"], line["1"]] for line in lines(found)][:2])
    assert np.abs(cells - table).max() <= 2 and found["values"] == {"of": "exact counts"}


def test_tests_never_tell_a_small_cell():
    frames = [frame.copy() for frame in FRAMES]
    frames[0].loc[[3, 4], "event"] = None  # two without an outcome
    (few,) = of(frames, {"kind": "crosstab", "rows": "sex", "columns": "event"})
    shown = np.array([[line["0"], line["1"]] for line in lines(few)][:2])
    assert few["values"] == {"of": "rounded counts"}
    assert lines(few, "tests")[0]["value"] == stats.chi2_contingency(shown, correction=False)[0]
    frames = [frame.assign(event=0) for frame in FRAMES]
    frames[0].loc[[3, 4], "event"] = 1
    (small,) = of(frames, {"kind": "crosstab", "rows": "sex", "columns": "event"})
    assert [table["name"] for table in small["tables"]] == [""]
    assert "would tell how many" in small["notes"][0]


# --- tests of groups ------------------------------------------------------------------------------
@pytest.mark.parametrize("shift", [0.0, 1e9])
def test_t_tests_are_scipys_with_all_digits(shift):
    """Numbers such as 1e9 + 1 lose none: the reference is of the small parts."""
    part = [frame.assign(x=frame["age"].round() + shift) for frame in FRAMES]
    (found,) = of(part, {"kind": "t_test", "columns": ["x"], "by": "sex"})
    first, second = (ROWS["age"].round()[ROWS["sex"] == sex] for sex in "fm")
    for line, same in zip(lines(found), (False, True), strict=True):
        expected = stats.ttest_ind(first, second, equal_var=same)
        assert (line["t"], line["df"], line["p"]) == pytest.approx(
            (expected.statistic, expected.df, expected.pvalue), rel=1e-12
        )
        assert line["low"] < line["difference"] < line["high"]
        assert abs(line["difference"] - (first.mean() - second.mean())) < 0.5


def test_degrees_of_freedom_dont_tell_how_few_are_left_out():
    frames = [frame.copy() for frame in FRAMES]
    frames[0].loc[[1, 2], "age"] = np.nan
    (found,) = of(frames, {"kind": "t_test", "columns": ["age"], "by": "sex"})
    rows = pd.concat(frames).dropna(subset="age")
    sizes = [round(int((rows["sex"] == sex).sum()) / 5) * 5 for sex in "fm"]
    line = lines(found)[1]
    assert line["df"] == sum(sizes) - 2 and "rounded counts" in found["notes"][0]
    assert line["p"] == 2 * stats.t.sf(abs(line["t"]), line["df"])


def test_nor_do_those_of_two_analyses_that_leave_nearly_the_same():
    """Forty without an age; of the others two have no sex, which 40 and 42 rows left would tell."""
    frames = [frame.copy() for frame in FRAMES]
    frames[0].loc[:39, "age"] = np.nan
    frames[0].loc[[90, 91], "sex"] = None
    one, two = of(
        frames,
        {"kind": "t_test", "columns": ["age"], "by": "event"},
        {"kind": "t_test", "columns": ["age"], "by": "sex"},
    )
    rows = len(ROWS) - 40
    assert lines(one)[1]["df"] == rows - 2
    assert (lines(two)[1]["df"] + 2) % 5 == 0 and "rounded counts" in two["notes"][0]


def test_anova_leaves_a_group_of_few_out():
    frames = [frame.copy() for frame in FRAMES]
    frames[1].loc[:3, "stage"] = "D"
    (found,) = of(frames, {"kind": "anova", "columns": ["age", "dose"], "by": "stage"})
    rows = pd.concat(frames)
    for line in lines(found):
        groups = [rows[line["column"]][rows["stage"] == stage] for stage in "ABC"]
        expected = stats.f_oneway(*groups)
        assert line["F"] == pytest.approx(expected.statistic, rel=1e-12)
        assert "groups of 5 persons or more" in found["notes"][0]


def test_a_paired_test_is_scipys():
    frames = [frame.assign(later=frame["weight"] + frame["dose"] - 3) for frame in FRAMES]
    (found,) = of(frames, {"kind": "paired_t_test", "before": "weight", "after": "later"})
    rows = pd.concat(frames).dropna()
    expected = stats.ttest_rel(rows["later"], rows["weight"])
    (line,) = lines(found)
    assert (line["t"], line["p"]) == pytest.approx(tuple(expected), rel=1e-12)


def test_ranks_are_exact_of_few_values_and_within_their_error_of_many():
    rng = np.random.default_rng(5)
    frames = [frame.assign(fine=rng.normal(frame["age"], 9)) for frame in FRAMES]
    rows, columns = pd.concat(frames), ["age", "score", "fine"]
    two, several = of(
        frames,
        {"kind": "mann_whitney", "columns": columns, "by": "sex", "groups": ["m", "f"]},
        {"kind": "kruskal", "columns": columns, "by": "stage"},
    )
    for line in lines(two):
        values = [rows[line["column"]][rows["sex"] == sex] for sex in "mf"]
        expected = stats.mannwhitneyu(*values, method="asymptotic")
        assert abs(line["U"] - expected.statistic) <= line["U ±"] + 1e-9
        assert line["p from"] - 1e-9 <= expected.pvalue <= line["p to"] + 1e-9
        if line["column"] != "fine":
            assert (line["U ±"], line["p"]) == (0, pytest.approx(expected.pvalue, rel=1e-9))
        else:
            assert 0 < line["U ±"] < 0.002 * len(values[0]) * len(values[1])
    for line in lines(several):
        groups = [rows[line["column"]][rows["stage"] == stage] for stage in "ABC"]
        expected = stats.kruskal(*groups)
        assert abs(line["H"] - expected.statistic) <= line["H ±"] + 1e-9


# --- correlations ---------------------------------------------------------------------------------
@pytest.mark.parametrize("complete", [False, True])
def test_correlations_are_numpys_within_what_they_state(complete):
    columns = ["age", "weight", "score", "dose"]
    frames = [frame.assign(age=frame["age"] + 1e6) for frame in FRAMES]
    rows = pd.concat(frames)[columns]
    (found,) = of(frames, {"kind": "correlation", "columns": columns, "complete": complete})
    expected = (rows.dropna() if complete else rows).corr()
    covariance = (rows.dropna() if complete else rows).cov()
    for line in lines(found, "pairs"):
        pair = line["column"], line["with"]
        assert abs(line["r"] - expected.loc[pair]) <= line["r ±"] + 1e-9 <= 0.11
        assert abs(line["covariance"] - covariance.loc[pair]) <= line["covariance ±"] + 1e-9


def test_a_correlation_of_zeros_and_ones_doesnt_tell_a_cell():
    """Zeros and ones, 500 each, that disagree in a few rows: who tries all finds 1 to 4."""
    for small in (1, 3):
        x = np.repeat([0.0, 1.0], 500)
        y = x.copy()
        y[:small], y[-small:] = 1.0, 0.0
        (found,) = of(
            [pd.DataFrame(dict(x=x, y=y))],
            {"kind": "correlation", "columns": ["x", "y"]},
            settings="",
        )
        line = lines(found, "pairs")[1]
        may = [n for n in range(20) if abs(1 - 4 * n / 1000 - line["r"]) <= line["r ±"] + 1e-9]
        assert {1, 2, 3, 4} <= set(may)


# --- table one ------------------------------------------------------------------------------------
def test_table_one():
    (found,) = of(
        FRAMES, {"kind": "table_one", "columns": ["age"], "categories": ["event"], "by": "sex"}
    )
    (table,) = found["tables"]
    assert table["head"] == ["", "", "f", "m", "p", "SMD"]
    rows = {(row[0], row[1]): row[2:] for row in table["rows"]}
    groups = [ROWS[ROWS["sex"] == sex] for sex in "fm"]
    assert all(abs(n - len(one)) <= 2 for n, one in zip(rows["n", ""], groups, strict=False))
    ages = [one["age"] for one in groups]
    expected = stats.ttest_ind(*ages, equal_var=False).pvalue
    line = rows["age", "mean (SD)"]
    assert line[2] == pytest.approx(expected, rel=1e-12)
    smd = abs(ages[0].mean() - ages[1].mean()) / math.sqrt((ages[0].var() + ages[1].var()) / 2)
    assert line[3] == pytest.approx(smd, abs=0.05)
    table = pd.crosstab(ROWS["sex"], ROWS["event"]).to_numpy()
    assert rows["event", "0"][2] == stats.chi2_contingency(table, correction=False)[1]
    shares = table[:, 0] / table.sum(axis=1)
    two = abs(shares[0] - shares[1]) / math.sqrt((shares * (1 - shares)).mean())
    assert rows["event", "0"][3] == pytest.approx(two, abs=0.03)  # Yang and Dalton's of two levels
    assert rows["event", "0"][0].endswith(" %)")


# --- privacy --------------------------------------------------------------------------------------
def test_noised_counts_means_and_quantiles_are_within_their_intervals():
    settings = CATEGORICAL + '[privacy]\nunit = "example"\nepsilon = 3\n'
    summary = {"kind": "summary", "columns": ["age"], "ranges": {"age": [0, 120]}, "by": "sex"}
    one, two = of(
        FRAMES,
        summary | {"categories": ["event"]},
        {"kind": "crosstab", "rows": "sex", "columns": "event"},
        settings=settings,
        noise=2.0,
    )
    for line in lines(one, "numbers"):
        values = ROWS["age"][ROWS["sex"] == line["group"]]
        assert abs(line["mean"] - values.mean()) <= line["mean ±"] < 5
        assert abs(line["SD"] - values.std()) <= line["SD ±"]
        for p in (5, 25, 50, 75, 95):
            assert abs(line[f"{p} %"] - np.quantile(values, p / 100)) <= line[f"{p} % ±"]
    assert lines(two)[0]["all"] == (ROWS["sex"] == "f").sum()  # no noise was added here
    assert two["values"]["interval"] == 4 and "noise" in two["notes"][0]


# --- names, and what can't be read ----------------------------------------------------------------
def test_no_two_tables_have_files_of_one_name():
    with pytest.raises(ConfigError, match="'a b' and 'A-b' would have files of the same names"):
        asked(
            FRAMES,
            {"name": "a b", "kind": "summary", "columns": ["age"]},
            {"name": "A-b", "kind": "summary", "columns": ["weight"]},
        )
    pairs = {"kind": "correlation", "columns": ["age", "weight"]}
    files = asked(
        FRAMES,
        {"name": "both", "kind": "summary", "columns": ["age"], "histograms": False},
        {"name": "both numbers"} | pairs,
        {"name": "both numbers pairs"} | pairs,
    )
    tables = [t for one in json.loads(files["statistics.json"])["analyses"] for t in one["tables"]]
    assert len(files) == 1 + len(tables)
    with pytest.raises(ConfigError, match="name"):  # a results package takes names of 64 characters
        of(FRAMES, {"name": "n" * 41} | pairs)
    assert all(len(file_name("n" * 40, table["name"])) <= 64 for table in tables)


def test_what_cannot_be_read_names_the_analysis_and_the_mend():
    with pytest.raises(DataError, match=r"analysis 'a0': .*column 'sex': .*is C\(column\)"):
        of(FRAMES, {"kind": "regression", "formula": "age ~ sex"})
    with pytest.raises(DataError, match=r"analysis 'a0': .*column 'sex'"):
        of(FRAMES, {"kind": "t_test", "columns": ["sex"], "by": "stage"})


def test_columns_that_nobody_has_are_named():
    frames = [frame.assign(none=np.nan) for frame in FRAMES]
    found, ranks = of(
        frames,
        {"kind": "correlation", "columns": ["age", "none"]},
        {"kind": "mann_whitney", "columns": ["none"], "by": "sex"},
    )
    assert found["notes"] == ["No number at any hospital: 'none'. Ask for the others alone."]
    assert "few have a value" in ranks["notes"][0]
