"""Where results lie, told to people."""

from __future__ import annotations

from pathlib import Path

from wardround.common.results.places import found_in


def test_what_is_there_is_named_and_nothing_else(tmp_path: Path) -> None:
    assert found_in(tmp_path) == []
    for name in ("report.html", "b.csv", "a.csv", "run.json"):
        (tmp_path / name).write_text("")
    report, tables = found_in(tmp_path)
    assert report.split() == ["report", str(tmp_path / "report.html")]
    assert tables.endswith("a.csv, b.csv")
    (tmp_path / "model").mkdir()
    assert found_in(tmp_path)[0].split() == ["model", str(tmp_path / "model")]
