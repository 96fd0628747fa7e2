"""The quickstart runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "examples" / "quickstart.md"


def test_every_block_runs_in_order(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 5
    names: dict = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"quickstart block {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert "federated AUC, mean of hospitals: 0.9" in printed
    assert len(list((tmp_path / "runs").iterdir())) == 2
