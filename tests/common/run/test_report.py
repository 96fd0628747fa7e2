"""The report: self-contained, escaped, right numbers, any run."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from wardround.common.errors import RunDirectoryError
from wardround.common.figures.figure import BINARY, BOUND_SENTENCE, FigureTable
from wardround.common.figures.intervals import figure_intervals
from wardround.common.figures.records import flat_records
from wardround.common.figures.sums import binary_figures, binary_sums
from wardround.common.run.directory import RunDirectory
from wardround.common.run.report.from_run import final_lines, report_run
from wardround.common.run.report.grouping import labels, ranges, shortened
from wardround.common.run.report.page import ReportData, render
from wardround.common.run.sums import KeptSums, write_sums

EVIL = "<script>alert(1)</script>"


def row(number: int, names: list[str], **changes: Any) -> dict[str, Any]:
    figures = {"auc": 0.5 + number / 100, "loss": 1 / number, "examples": 3.0}
    return {
        "round": number,
        "attempt": 1,
        "cohort": names,
        "accepted": names,
        "refused": [],
        "train_loss": 1.0,
        "overall": {"test": figures},
        "hospitals": {name: {"test": figures} for name in names},
        "bytes_down": 1000,
        "bytes_up": 500,
        "seconds": {"train": 0.5, "evaluate": 0.25, "total": 0.75},
    } | changes


def data(hospitals: list[str], rounds: list[dict[str, Any]], **changes: Any) -> ReportData:
    values: dict[str, Any] = {
        "name": "demo",
        "created": "2026-01-01T00:00:00",
        "status": "complete",
        "config_toml": "[federation]\nname = 'demo'\n",
        "environment": {"python": "3.11"},
        "figures": FigureTable(BINARY, "auc"),
        "records": flat_records(rounds),
        "rounds": rounds,
        "hospitals": [
            {
                "hospital": h,
                "train": 5,
                "validation": 0,
                "test": 3,
                "warnings": [],
                "prevalence": None,
            }
            for h in hospitals
        ],
        "comparison": [
            {
                "hospital": h,
                "local": {"auc": 0.7, "loss": 0.5},
                "federated": {"auc": 0.8, "loss": 0.4},
                "pooled": {"auc": math.nan, "loss": 0.6},
            }
            for h in [*hospitals, "mean", "overall"]
        ],
        "notes": ["not private"],
    }
    return ReportData(**(values | changes))


class Page(HTMLParser):
    """Collects tags, table cells and the figures' JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._inside = ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, text) -> None:
        if self._inside in ("td", "th"):
            self.cells[-1] += text.strip()
        if self._inside == "script":
            self.scripts[-1] += text

    def handle_endtag(self, tag) -> None:
        self._inside = ""

    @property
    def figures(self) -> dict[str, Any]:
        return json.loads(self.scripts[1])


def test_it_loads_nothing_from_anywhere() -> None:
    text = render(data(["a", "b"], [row(1, ["a", "b"])]))
    page = Page(text)
    for _, attributes in page.tags:
        assert not {"src", "href", "srcset", "action", "data"} & set(attributes), attributes
    own = text.replace(page.scripts[0], "")
    assert "http" not in own and "@import" not in own and "url(" not in own
    assert len(page.scripts) == 3


def test_a_hostile_name_or_reason_stays_text_everywhere() -> None:
    refusal = {"hospital": EVIL, "step": "train", "reason": EVIL}
    rounds = [row(1, [EVIL, "b"], refused=[refusal]), row(2, [EVIL, "b"])]
    report = data([EVIL, "b"], rounds, name=EVIL, status=EVIL, notes=[EVIL], config_toml=EVIL)
    report.hospitals[0]["warnings"] = [EVIL]
    text = render(report)
    assert EVIL not in text
    page = Page(text)
    assert len(page.scripts) == 3
    names = [trace["name"] for trace in page.figures["primary"]["data"]]
    assert escape(shortened(EVIL), quote=False) in names


def test_the_numbers_in_the_table_and_the_best_of_a_row() -> None:
    report = data(["a"], [row(1, ["a"])])
    spans = {"local": {"auc": (0.6, 0.75)}, "federated": {"auc": (0.76, 0.85)}}
    report.comparison[0]["intervals"] = spans
    text = render(report)
    assert re.search(
        r'<th scope="row">a</th><td class="num">0.700 <small>\(0.600–0.750\)</small></td>'
        r'<td class="num best">0.800 <small>\(0.760–0.850\)</small></td><td class="num">–</td>',
        text,
    )
    assert '<td class="num">0.500</td><td class="num">0.400</td>' in text, "a loss has no interval"
    spans["local"]["auc"] = (0.6, 0.77)  # they overlap: chance may have made the order
    assert 'class="num best"' not in render(report)


@pytest.mark.parametrize(
    "report",
    [
        data([], [], comparison=[], status="stopped before the first round"),
        data(["a"], [row(1, ["a"])]),
        data(["a"], [row(1, ["a"], overall={}, hospitals={}, train_loss=None)], comparison=[]),
        data(["a"], [row(1, ["a"], attempt=3)]),
    ],
)
def test_any_run_gives_a_page(report) -> None:
    text = render(report)
    assert text.rstrip().endswith("</html>") and "nan" not in json.dumps(Page(text).figures)
    assert render(report) == text


def test_many_hospitals_become_a_band_and_stay_small() -> None:
    names = [f"h{index:03d}" for index in range(150)]
    text = render(data(names, [row(number, names) for number in range(1, 21)]))
    assert len(Page(text).figures["primary"]["data"]) == 4
    assert len(text) < 6_000_000


def test_a_deployed_runs_report_says_nothing_of_simulation(tmp_path: Path) -> None:
    text = "[privacy]\nunit = 'hospital'\nnoise = 'distributed'\nnoise_multiplier = 1.0\n"
    pages = {}
    for deployed in (False, True):
        run = RunDirectory.create(tmp_path, "run", text)
        run.update(
            name="run",
            status="complete",
            comparison=[{"hospital": "a", "federated": {"auc": 0.5}}],
            hospitals=[],
            kind="deployed" if deployed else "simulated",
        )
        pages[deployed] = report_run(run).read_text()
    for words in ("simulated here", "In a simulation the rounding", "protects nobody"):
        assert words in pages[False] and words not in pages[True]
    assert "Secure aggregation was on" in pages[True]


def test_names_that_look_like_numbers_are_categories_and_long_ones_are_shortened() -> None:
    names = ["1001", "1002", "20001", "a" * 59 + "1", "a" * 59 + "2"]
    figures = Page(render(data(names, [row(1, names), row(2, names)]))).figures
    assert figures["sizes"]["layout"]["xaxis"]["type"] == "category"
    shown = figures["sizes"]["data"][0]["x"]
    assert shown[:3] == names[:3] and len(set(shown)) == 5 and max(map(len, shown)) <= 20
    assert {trace["name"] for trace in figures["primary"]["data"]} >= set(shown)


def test_labels_are_different_whatever_the_names() -> None:
    names = ["a" * 30 + "b" * 30, "a" * 31 + "b" * 30, "x"]
    assert len(set(labels(names, {}).values())) == 3
    assert labels(["x"], {"x": "St. <b>"}) == {"x": "St. &lt;b&gt;"}


def test_what_was_refused_again_and_again_is_one_line() -> None:
    refusal = {"hospital": "a", "step": "train", "reason": "no"}
    rounds = [row(n, ["a", "b"], refused=[refusal] * (n != 5), attempt=2) for n in range(1, 261)]
    page = Page(render(data(["a", "b"], rounds)))
    assert page.cells.count("no") == 1
    at = page.cells.index("no")
    assert page.cells[at - 2 : at + 3] == ["a", "train", "no", "259", "1–4, 6–260"]
    folded = [tag for tag, _ in page.tags if tag == "details"]
    assert len(folded) == 3, "settings, environment, and the table of 260 rounds"
    assert ranges([7, 1, 3, 2, 3]) == "1–3, 7" and ranges([]) == ""


def test_the_same_warning_of_many_hospitals_is_one_line() -> None:
    report = data([f"h{number}" for number in range(12)], [row(1, ["h0"])])
    for hospital in report.hospitals:
        hospital["warnings"] = [f"{hospital['hospital']}: column 'x' is wholly missing"]
    text = render(report)
    assert text.count("is wholly missing") == 1
    assert "h0, h1, h2, h3, h4, h5, h6, h7 and 4 more: column" in text


def test_a_lost_round_and_what_did_leave_before_an_unmasking_are_said() -> None:
    gone = {"hospital": "b", "step": "unmask", "reason": "it is not connected"}
    lost = {"train_loss": None, "lost": "2 hospitals gave shares", "attempt": 3}
    rounds = [
        row(1, ["a", "b"], refused=[gone]),
        row(2, [], overall={}, hospitals={}, **lost),
        row(3, ["a"]),
    ]
    text = render(data(["a", "b"], rounds))
    page = Page(text)
    assert "Round 2 is lost, and the model stayed as it was: 2 hospitals gave shares." in text
    assert "1 of them lost" in text and "More than one attempt" not in text
    assert "lost" in page.cells and "0/0" not in page.cells and "2/2" in page.cells
    assert "failed to unmask had sent a masked vector before, and that is in the sum" in text
    assert "to unmask" not in render(
        data(["a"], [row(1, ["a"], refused=[gone | {"step": "keys"}])])
    )


def test_a_mean_row_of_different_hospitals_has_no_star() -> None:
    rows = [("a", 0.5, 0.9), ("b", 0.4, None), ("mean", 0.45, 0.9), ("overall", 0.5, 0.8)]
    comparison = [
        {"hospital": name, "local": {"precision": one}, "federated": {"precision": other}}
        | {"intervals": {"local": {"precision": (0, 0.6)}, "federated": {"precision": (0.7, 1)}}}
        for name, one, other in rows
    ]
    text = render(data(["a", "b"], [row(1, ["a", "b"])], comparison=comparison))
    table = text[text.index("precision on test rows") :]
    assert table.count('class="num best"') == 2, "of a, and of all rows together"
    assert "The means are of different hospitals" in table


def test_a_run_that_nothing_is_compared_with_shows_its_models_figures(tmp_path: Path) -> None:
    """Between machines, masked: the mean and all rows, of the round that the model is of."""
    run = RunDirectory.create(tmp_path, "run", "")
    run.update(status="complete", chosen_round=1, hospitals=[], kind="deployed", primary="auc")
    run.update(figures={figure.name: asdict(figure) for figure in BINARY})
    means = {"test": {"auc": {"mean": 0.625, "bound": 0.012, "hospitals": 3}}}
    over = {"test": list("abcd")}
    for number in (1, 2):
        run.append_round(row(number, ["a"], hospitals={}, within=means, hidden=True, over=over))
    page = report_run(run).read_text()
    assert "<b>0.625 ±0.012</b>" in page and "0.510" in page and "0.520" not in page
    assert "The mean of auc is of 3 of the 4 hospitals that evaluated" in page
    assert page.count(BOUND_SENTENCE) == 1 and "figures of single hospitals aren" in page
    (line,) = final_lines(run)
    assert line.startswith(
        "model of round 1, test rows: auc 0.625 ±0.012 (mean of 3 of 4 hospitals), 0.510"
    )
    run.update(away={"b": "it refused the run: <b>max_rounds</b>"}, titles={"b": "Bö"})
    said = "wasn&#39;t there at the end: it refused the run: &lt;b&gt;max_rounds"
    assert f"Bö {said}" not in page and f"Bö {said}" in report_run(run).read_text()
    run = RunDirectory.create(tmp_path, "none", "")
    run.update(status="complete", hospitals=[], kind="deployed", primary="auc")
    run.update(figures={figure.name: asdict(figure) for figure in BINARY})
    assert final_lines(run) == []
    run.append_round(row(1, ["a"], hospitals={}, overall={}))
    assert final_lines(run) == ["model of round 1: no figure was measured"]
    run.update(purpose="Is <b> enough?")
    page = report_run(run).read_text()
    assert "No figure of the model of round 1 was measured." in page
    assert "a figure is of at least 3 hospitals with held-out rows" in page
    assert "<p>Is &lt;b&gt; enough?</p>" in page


def test_the_chosen_models_curves_thresholds_and_intervals_are_shown(tmp_path: Path) -> None:
    """As a deployed, masked run leaves them: R9."""
    rng = np.random.default_rng(3)
    truth = np.arange(600) < 200
    sums = binary_sums(np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1), truth)
    figures = binary_figures(sums)
    run = RunDirectory.create(tmp_path, "run", "")
    run.update(status="complete", chosen_round=1, hospitals=[], kind="deployed", primary="auc")
    run.update(figures={figure.name: asdict(figure) for figure in BINARY})
    means = {"auc": {"mean": 0.8, "bound": 0.001, "hospitals": 3, "variance": 0.0004}}
    shown = {"overall": {"test": figures}, "within": {"test": means}, "over": {"test": list("abc")}}
    run.append_round(row(1, ["a"], hospitals={}, hidden=True, **shown))
    write_sums(run, KeptSums(1, {"test": sums}, {"test": list("abc")}, True))
    low, high = figure_intervals(figures, sums)["auc"]
    (line,) = final_lines(run)
    logit = stats.logistic.ppf(0.8) + np.array([-1, 1]) * 1.96 * 0.02 / 0.16
    assert line == (
        "model of round 1, test rows: auc 0.800 (mean of hospitals; 95 % interval "
        f"{stats.logistic.cdf(logit[0]):.3f} to {stats.logistic.cdf(logit[1]):.3f}), "
        f"{figures['auc']:.3f} (all rows, hospitals mixed; 95 % interval {low:.3f} to {high:.3f})"
    )
    at = {"sensitivity": [0.9, 0.85, 0.93], "specificity": [0.5, None, None]}
    one = {"rule": "sensitivity=0.9", "threshold": 0.37, "figures": at}
    (run.model / "thresholds.json").write_text(json.dumps({"thresholds": [one]}))
    page = Page(text := report_run(run).read_text())
    assert {"roc", "precision", "calibration", "benefit"} <= set(page.figures)
    curve = page.figures["roc"]["data"][1]
    assert np.trapezoid(curve["y"], curve["x"]) == pytest.approx(figures["auc"], abs=2e-3)
    assert {"sensitivity=0.9", "0.37", "0.900 (0.850–0.930)", "0.500"} <= set(page.cells)
    cells = [f"{cell:.0f}" for cell in sums["confusion"].ravel()]
    assert all(cell in page.cells for cell in cells)
    own = text.replace(page.scripts[0], "")
    assert "@page { size: A4" in own and "beforeprint" in own
    (run.path / "sums.safetensors").write_bytes(b"cut")
    with pytest.raises(RunDirectoryError, match="remove it: the run then shows no curves"):
        report_run(run)


def test_the_page_speaks_of_what_was_made_and_says_what_sizes_are(tmp_path: Path) -> None:
    text = "[privacy]\nunit = 'patient'\nepsilon = 3.0\n"
    run = RunDirectory.create(tmp_path, "run", text)
    hospital = {"hospital": "a", "train": 9, "validation": 0, "test": 3, "warnings": []}
    table = [{"hospital": name, "federated": {"rmse": 0.5}} for name in ("a", "mean", "overall")]
    run.update(name="run", status="complete", hospitals=[hospital], comparison=table)
    run.update(primary="rmse", figures={"rmse": {"name": "rmse", "better": "lower"}})
    run.append_round(row(1, ["a"]))
    page = report_run(run).read_text()
    own = page.replace(Page(page).scripts[0], "")
    assert "<caption>Patients, as announced with noise</caption>" in own
    assert "pooled" not in own and "own model" not in own
    assert "star marks" not in own and "positive" not in own


def test_the_report_says_what_computed(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "run", "")
    sizes = {"train": 9, "validation": 0, "test": 3, "warnings": []}
    devices = {"a": "cpu", "b": "cuda", "c": "cpu", "d": ""}
    rows = [{"hospital": name, **sizes, "device": device} for name, device in devices.items()]
    for told, said in (
        ({"hospitals": rows}, "cpu (2 hospitals), cuda (1 hospital)"),
        ({"population": {"clients": 12, "device": "cuda:1"}}, "cuda:1"),
    ):
        run.update(name="run", status="complete", hospitals=[])
        run.update(**told, primary="rmse", figures={"rmse": {"name": "rmse", "better": "lower"}})
        assert f'<th scope="row">computed on</th><td>{said}</td>' in report_run(run).read_text()
