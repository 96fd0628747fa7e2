"""Tables and plots as a paper takes them."""

from __future__ import annotations

from xml.etree import ElementTree

from wardround.common.procedures.statistics.page import page
from wardround.common.procedures.statistics.plots import alone, drawn

PLOT = {
    "type": "curves",
    "title": "Survival",
    "x": "days",
    "y": "share",
    "lines": [{"name": "treated < 5", "x": [0, 9], "y": [1.0, 0.5], "step": True}],
    "risk": {"times": [0.0], "rows": [{"name": "treated < 5", "counts": ["40"]}]},
}


def test_a_plot_alone_needs_nothing_of_the_page_and_groups_are_named_whole() -> None:
    tree = ElementTree.fromstring(alone(PLOT))
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" in drawn(PLOT) and "var(" not in alone(PLOT)
    named = [one.text for one in tree.iter() if one.text == "treated < 5"]
    assert len(named) == 2  # beside the curve's color, and before the numbers at risk
    assert alone({"type": "another"}) == ""


def test_plots_come_before_the_second_table_and_long_ones_are_folded() -> None:
    few = {"name": "", "title": "", "head": ["", "n"], "rows": [["n", 12], ["age", "6 (2)"]]}
    many = {
        "name": "x",
        "title": "",
        "head": ["n"],
        "rows": [[float(n)] for n in range(1000, 1060)],
    }
    one = {"name": "a", "kind": "", "notes": [], "tables": [few, many], "plots": [PLOT]}
    found = {"hospitals": 3, "smallest_cell": 5, "rows": 80, "persons": None, "analyses": [one]}
    text = page(found, "run")
    assert text.index("a.csv") < text.index("<svg") < text.index("<summary>60 rows</summary>")
    assert ">1,059<" in text and '<td class="num">12' in text
