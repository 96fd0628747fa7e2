"""What a person sees: a line that changes, a short text, a table, a curve, names."""

from __future__ import annotations

import importlib
import io
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from wardround.common.tasks import load_task
from wardround.simulations import simulate
from wardround.simulations.python.progress import Line, OnTerminal, shown_line

PRIMARY = load_task("tabular", {"kind": "binary"}).figure_table().primary
ROW = {"round": 2, "overall": {"test": {"auc": 0.75}}, "hospitals": {}}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(stream: io.StringIO) -> str:
    with Line(2, PRIMARY, OnTerminal(stream)) as line:
        line.begins(["without differential privacy"])
        line.round_started(1, ["north", "south"], 1)
        line.replied("south", "train", "its disk is full")
        line.round_committed(ROW)
        line.progress("training local and pooled models")
    return stream.getvalue()


def test_on_a_terminal_one_line_is_written_over() -> None:
    text = told(Terminal())
    lines = [one.rpartition("\r\x1b[2K")[2] for one in text.rstrip("\n").split("\n")]
    assert lines[0] == "without differential privacy"
    assert lines[1] == "south refused (train): its disk is full"
    assert re.fullmatch(r"round 2/2  test auc 0.7500  \(\d+ s\)", lines[2])
    assert len(lines) == 3


def test_in_a_file_there_are_plain_lines() -> None:
    text = told(io.StringIO())
    assert "\r" not in text and "\x1b" not in text
    assert text.splitlines()[-1].startswith("round 2/2  test auc 0.7500")


def test_a_script_is_silent_unless_it_asks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown_line(None, 1, PRIMARY) is None and shown_line(False, 1, PRIMARY) is None
    assert shown_line(True, 1, PRIMARY) is not None
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert shown_line(None, 1, PRIMARY) is not None and shown_line(False, 1, PRIMARY) is None
    simulate(overrides={"federation.rounds": 1, "simulation.baselines": False}, progress=False)
    assert capsys.readouterr().out == ""


def test_a_result_shows_itself() -> None:
    result = simulate(overrides={"federation.rounds": 3})
    text = repr(result)
    assert len(text) < 300 and str(result.run_directory) in text
    assert f"test auc {result.figure('auc'):.4g}; 3 rounds, 5 hospitals" in text
    page = ElementTree.fromstring(result._repr_html_())
    rows = [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]
    assert rows[0] == ["hospital", "local", "federated", "pooled"] and len(rows) == 1 + 5 + 2
    for shown, row in zip(rows[1:], result.comparison, strict=True):
        assert shown[2].rstrip("*") == f"{row['federated']['auc']:.3f}"
    (curve,) = (one for one in page.iter() if one.tag.endswith("svg"))
    assert any(one.tag.endswith("path") for one in curve.iter())
    assert "<script" not in result._repr_html_() and "http" not in re.sub(
        r'xmlns="[^"]*"', "", result._repr_html_()
    )


@pytest.mark.parametrize(
    "package",
    ["simulations", "common.tasks", "common.predict", "common.procedures", "client.researcher"],
)
def test_names_complete(package: str) -> None:
    module = importlib.import_module(f"wardround.{package}")
    assert set(module.__all__) <= set(dir(module))
