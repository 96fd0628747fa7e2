"""Statistics held against the libraries that the documents name, on all rows together.

A figure that is rounded, or kept back for the few that it would tell of, is held within what stands
beside it; one that isn't shown is no fault here (``ask.unsound`` wants a note).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from lifelines import KaplanMeierFitter
from numpy.typing import NDArray
from patsy import dmatrices  # type: ignore[import-untyped]
from scipy import stats
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge

from tests.campaign.questions.draw import CATEGORIES, NUMBERS, Values
from wardround.common.config.load import Config
from wardround.common.config.task import make_task

Faults = Iterator[str]
Found = dict[str, Any]
Judge = Callable[[Values, Found, pd.DataFrame], Faults]
_CELL = 5
FAMILIES: dict[str, Any] = {
    "linear": sm.families.Gaussian(),
    "logistic": sm.families.Binomial(),
    "poisson": sm.families.Poisson(),
    "gamma": sm.families.Gamma(sm.families.links.Log()),
}


def rows_of(config: Config) -> pd.DataFrame:
    """All hospitals' rows: numbers, categories as texts below ``NAME_c``, and ``hospital``."""
    task, path = make_task(config), config.data_path()
    assert path is not None
    parts = []
    for name, place in task.sites(path).items():
        table = task.load(place)
        columns: dict[str, Any] = {x: table.numbers(x) for x in (*NUMBERS, "smoker", "event")}
        columns |= {f"{x}_c": table.categories(x) for x in CATEGORIES}
        parts.append(pd.DataFrame(columns | {"hospital": name}))
    return pd.concat(parts, ignore_index=True)


def judged(options: Values, found: Found, rows: pd.DataFrame) -> list[str]:
    """Faults of one analysis of these options."""
    judge = JUDGES.get(options["kind"])
    return [f"{options['kind']}: {one}" for one in judge(options, found, rows)] if judge else []


def _near(what: str, ours: Any, theirs: Any, within: float = 0.0, relative: float = 1e-7) -> Faults:
    """Nothing where ours isn't shown."""
    if not isinstance(ours, int | float) or isinstance(ours, bool):
        return
    room = within + relative * max(1.0, abs(float(theirs)), abs(float(ours)))
    if not abs(ours - theirs) <= room:
        yield f"{what} is {ours:.10g}, of all rows {theirs:.10g}"


def _table(found: Found, name: str = "") -> list[dict[str, Any]]:
    """A table's rows by the head's words; ± belongs to the word before it."""
    one = next((t for t in found["tables"] if t["name"] == name), None)
    if one is None:
        return []
    head: list[str] = []
    for word in one["head"]:
        head.append(f"{head[-1]} ±" if word == "±" else word)
    return [dict(zip(head, row, strict=True)) for row in one["rows"]]


def _groups(options: Values, rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    key = f"{options['by']}_c"
    return [(str(name), part) for name, part in rows.groupby(key)]


# --- counts and means -----------------------------------------------------------------------------
def _summary(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    for line in _table(found, "numbers"):
        part = rows
        if options.get("by"):
            part = rows[rows[f"{options['by']}_c"] == str(line["group"])]
        values = part[line["column"]].dropna()
        if isinstance(line["n"], int | float):
            yield from _near("a count", line["n"], len(values), _CELL * 2)
        name = f"{line['column']} ({line.get('group', 'all')})"
        yield from _near(f"mean of {name}", line["mean"], values.mean(), line.get("mean ±") or 0)
        for share in (5, 25, 50, 75, 95):
            off = line.get(f"{share} % ±") or 0
            truth = np.quantile(values, share / 100) if len(values) else np.nan
            yield from _near(f"{share} % of {name}", line[f"{share} %"], truth, off)


def _crosstab(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    table = pd.crosstab(rows[f"{options['rows']}_c"], rows[f"{options['columns']}_c"])
    for line in _table(found):
        label = line[f"{options['rows']} by {options['columns']}"]
        for level in table.columns:
            if label in table.index and level in line:
                truth = table.loc[label, level]
                yield from _near(f"{label} and {level}", line[level], truth, _CELL * 2)
    if found["values"].get("of") == "exact counts":
        chi = stats.chi2_contingency(table, correction=False)
        yield from _near("chi square", found["values"].get("chi square"), chi.statistic)


def _correlation(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    part = rows[options["columns"]]
    part = part.dropna() if options.get("complete") else part
    for line in _table(found, "pairs"):
        pair = part[[line["column"], line["with"]]].T.drop_duplicates().T
        if line["column"] == line["with"]:
            continue
        r = pair.corr().iloc[0, 1]
        yield from _near(f"r of {line['column']}, {line['with']}", line["r"], r, line["r ±"] or 0)
        c = pair.cov().iloc[0, 1]
        yield from _near("a covariance", line["covariance"], c, line["covariance ±"] or 0, 1e-6)


# --- tests ----------------------------------------------------------------------------------------
def _two(options: Values, rows: pd.DataFrame, column: str) -> list[NDArray[np.float64]]:
    names = options.get("groups") or sorted(rows[f"{options['by']}_c"].dropna().unique())
    groups = dict(_groups(options, rows))
    return [groups[name][column].dropna().to_numpy() for name in names]


def _t_test(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    for line in _table(found):
        a, b = _two(options, rows, line["column"])
        t = stats.ttest_ind(a, b, equal_var=line["test"] == "Student").statistic
        yield from _near(f"t of {line['column']}", line["t"], t)


def _paired(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    both = rows[[options["before"], options["after"]]].dropna()
    for line in _table(found):
        t = stats.ttest_rel(both[options["after"]], both[options["before"]]).statistic
        yield from _near("t", line["t"], t)


def _anova(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    for line in _table(found):
        parts = [part[line["column"]].dropna() for _, part in _groups(options, rows)]
        yield from _near(f"F of {line['column']}", line["F"], stats.f_oneway(*parts).statistic)


def _mann_whitney(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    for line in _table(found):
        a, b = _two(options, rows, line["column"])
        u = stats.mannwhitneyu(a, b, method="asymptotic").statistic
        yield from _near(f"U of {line['column']}", line["U"], u, line["U ±"] or 0)


def _kruskal(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    for line in _table(found):
        parts = [part[line["column"]].dropna() for _, part in _groups(options, rows)]
        h = stats.kruskal(*parts).statistic
        yield from _near(f"H of {line['column']}", line["H"], h, line["H ±"] or 0)


# --- many columns ---------------------------------------------------------------------------------
def _pca(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    shown = found["values"].get("variances")
    if not shown or any("ounded" in note for note in found["notes"]):
        return
    part = rows[options["columns"]].dropna()
    matrix = (part.corr() if options.get("scale", True) else part.cov()).to_numpy()
    truth = np.sort(np.linalg.eigvalsh(matrix))[::-1]
    for place, value in enumerate(shown):
        yield from _near(f"variance {place + 1}", value, truth[place], 1e-9 * truth[0])


def _kmeans(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    centres = found["values"].get("centres")
    if not centres or len(centres) < options.get("clusters", 3):
        return  # of few, one isn't shown
    part = rows[found["values"]["columns"]].dropna().to_numpy()
    mean, std = part.mean(0), part.std(0)
    gaps = (part - mean) / std
    near = ((gaps[:, None] - ((np.array(centres) - mean) / std)[None]) ** 2).sum(-1).min(1)
    # centres are means of the rows nearest to them, or were one step before
    yield from _near("inertia", found["values"]["inertia"], near.sum(), relative=0.02)


# --- times ----------------------------------------------------------------------------------------
def _kaplan_meier(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    part = rows[["days", "event"]].dropna().assign(by="all")
    if options.get("by"):
        part = part.assign(by=rows[f"{options['by']}_c"]).dropna()
    entry = rows.loc[part.index, options["entry"]] if options.get("entry") else None
    grid, horizon = options.get("grid", 1.0), options.get("horizon")
    for name, own in part.groupby("by"):
        time = np.ceil(own["days"] / grid) * grid
        event = own["event"].to_numpy()
        if horizon is not None:
            event, time = np.where(time > horizon, 0, event), np.minimum(time, horizon)
        fit = KaplanMeierFitter()
        if entry is not None:
            continue  # rows under observation are another question: test_kaplan_meier has it
        fit.fit(time, event)
        for line in _table(found, "curve"):
            if str(line["group"]) in (str(name), "", "all"):
                at = float(fit.predict(line["time"]))
                room = 1e-9
                if not options.get("exact"):  # digits that few can't be told from, and steps
                    digits = len(repr(line["survival"]).partition(".")[2])
                    room = 0.6 * 10.0**-digits + line["survival"] - line["least"]
                told = f"survival of {name} at {line['time']:g}"
                yield from _near(told, line["survival"], at, room)


def _cox(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    pooled = options.get("risk_sets") == "pooled"
    if not found["values"].get("coefficients") or options.get("entry"):
        return
    if pooled and (options.get("merged", True) or options.get("grid", 1.0) != 1.0):
        return  # of merged times: test_cox says how near
    text = f"days ~ {_patsy(options['formula'])}"
    part = rows.dropna(subset=["days", "event"]).reset_index(drop=True)
    part = part.dropna(subset=_used(text, part))
    if (horizon := options.get("horizon")) is not None:
        over = part["days"] > horizon
        part = part.assign(
            event=part["event"].where(~over, 0), days=part["days"].clip(upper=horizon)
        )
    strata = None if pooled else part["hospital"]
    ties = options.get("ties", "efron")
    model = smf.phreg(f"{text} - 1", part, status=part["event"], strata=strata, ties=ties)
    names = [_named(x) for x in model.exog_names]
    if set(names) != set(found["values"]["coefficients"]):
        return  # columns that follow from others, or few: a note says so
    try:
        fit = model.fit(disp=0)
    except (np.linalg.LinAlgError, ValueError):
        return
    yield from _coefficients(found, dict(zip(names, fit.params, strict=True)), 1e-4)


# --- regressions ----------------------------------------------------------------------------------
def _patsy(text: str) -> str:
    text = re.sub(r"C\((\w+)\)", r"C(\1_c)", text).replace("log(", "np.log(")
    return text


def _named(name: str) -> str:
    return re.sub(r"C\((\w+)_c\)", r"C(\1)", name).replace("np.log", "log").replace(" ", "")


def _used(text: str, rows: pd.DataFrame) -> list[str]:
    return [name for name in rows.columns if re.search(rf"\b{name}\b", text)]


def _coefficients(found: Found, truth: dict[str, float], relative: float = 1e-6) -> Faults:
    for name, one in found["values"]["coefficients"].items():
        key = name.replace(" ", "")
        if one.get("estimate") is not None and key in truth:
            error = one.get("standard_error") or 0.0
            yield from _near(name, one["estimate"], truth[key], 1e-5 * error, relative)


def _fitted(options: Values, rows: pd.DataFrame) -> Any:
    text, family = _patsy(options["formula"]), options.get("family", "linear")
    names = _used(text, rows) + ([options["weights"]] if options.get("weights") else [])
    part = rows.dropna(subset=names).reset_index(drop=True)
    more = {"freq_weights": part[options["weights"]].to_numpy()} if options.get("weights") else {}
    known = FAMILIES.get(family)
    if known is None:
        if (alpha := options.get("alpha")) is None:
            return None
        known = sm.families.NegativeBinomial(alpha=alpha)
    try:
        return smf.glm(text, part, family=known, **more).fit(tol=1e-12, maxiter=300)
    except (ValueError, np.linalg.LinAlgError, sm.tools.sm_exceptions.PerfectSeparationError):
        return None


def _regression(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    if not found["values"].get("coefficients") or (fit := _fitted(options, rows)) is None:
        return
    truth = {_named(name): value for name, value in fit.params.items()}
    ours = {name.replace(" ", "") for name in found["values"]["coefficients"]}
    if set(truth) == ours:  # else levels were joined, or columns left out: a note says so
        yield from _coefficients(found, truth)
        yield from _near("deviance", found["values"]["fit"].get("deviance"), fit.deviance, 0, 1e-6)


def _penalised(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    lines = {line["term"].replace(" ", ""): line for line in _table(found)}
    strength = options.get("strength") or found["values"].get("strength")
    if len(lines) < 2 or strength is None or not options.get("scale", True):
        return
    text = _patsy(options["formula"])
    part = rows.dropna(subset=_used(text, rows)).reset_index(drop=True)
    left, right = dmatrices(text, part, return_type="dataframe")
    x = right.drop(columns="Intercept")
    if {_named(name) for name in x} != set(lines) - {"Intercept"}:
        return
    z, y = ((x - x.mean()) / x.std(ddof=0)).to_numpy(), left.iloc[:, 0].to_numpy()
    mix, n = options.get("mix", 1.0), len(y)
    if options.get("family") == "logistic":
        model: Any = LogisticRegression(
            C=1 / (strength * n), l1_ratio=mix, solver="saga", tol=1e-9, max_iter=20_000
        )
        within = 1e-4
    elif mix == 0:
        model, within = Ridge(alpha=strength * n, tol=1e-14, solver="cholesky"), 1e-7
    else:
        model = ElasticNet(alpha=strength, l1_ratio=mix, tol=1e-14, max_iter=100_000)
        within = 1e-7
    truth = dict(zip(map(_named, x), model.fit(z, y).coef_.reshape(-1), strict=True))
    scale = max(1.0, float(np.abs(y).max()))
    for name, value in truth.items():
        yield from _near(name, lines[name]["of the standard column"], value, within * scale)


def _mixed(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    """Generalised least squares at the variances found."""
    fit = found["values"].get("fit")
    if not fit:
        return
    text = _patsy(options["formula"])
    part = rows.dropna(subset=_used(text, rows))
    part = part[part.groupby("hospital")["days"].transform("size") >= _CELL].reset_index(drop=True)
    left, x = dmatrices(text, part, return_type="dataframe")
    names = [_named(name) for name in x]
    if set(names) != {name.replace(" ", "") for name in found["values"]["coefficients"]}:
        return
    same = part["hospital"].to_numpy()[:, None] == part["hospital"].to_numpy()
    inside = fit["variance within"] * np.eye(len(part)) + fit["variance between hospitals"] * same
    solved = np.linalg.solve(inside, np.column_stack([x, left]))
    design = x.to_numpy()
    truth = np.linalg.solve(design.T @ solved[:, :-1], design.T @ solved[:, -1])
    yield from _coefficients(found, dict(zip(names, truth, strict=True)), 1e-5)


def _propensity(options: Values, found: Found, rows: pd.DataFrame) -> Faults:
    values = found["values"]
    if not values.get("score"):
        return
    text = _patsy(options["formula"])
    part = rows.dropna(subset=_used(text, rows))
    fit = smf.logit(text, part).fit(disp=0, tol=1e-12, maxiter=200)
    truth = {_named(name): value for name, value in fit.params.items()}
    names = ["Intercept", *(name.replace(" ", "") for name in values["columns"])]
    for name, value in zip(names, values["score"], strict=True):
        if name in truth:
            yield from _near(f"score of {name}", value, truth[name], 0, 1e-6)


JUDGES: dict[str, Judge] = {
    "summary": _summary,
    "crosstab": _crosstab,
    "correlation": _correlation,
    "t_test": _t_test,
    "paired_t_test": _paired,
    "anova": _anova,
    "mann_whitney": _mann_whitney,
    "kruskal": _kruskal,
    "pca": _pca,
    "kmeans": _kmeans,
    "kaplan_meier": _kaplan_meier,
    "cox": _cox,
    "regression": _regression,
    "penalised_regression": _penalised,
    "mixed_model": _mixed,
    "propensity": _propensity,
}
