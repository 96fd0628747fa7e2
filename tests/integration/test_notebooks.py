"""The notebooks run from their first cell to their last, and lie in git without outputs."""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent.parent / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
OWN_LINES = 15
_SECONDS = 300


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def code_of(path: Path) -> list[str]:
    return [cell.source for cell in read(path).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(path: Path, tmp_path: Path) -> None:
    """Its own assertions hold, and what it shows last is shown."""
    notebook = read(path)
    # the kernel of this environment, whatever kernels are registered on the machine
    spec = tmp_path / "kernels" / "here"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    text = {"argv": argv, "display_name": "here", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(text))
    client = NotebookClient(
        notebook,
        timeout=_SECONDS,
        kernel_name="here",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.create_kernel_manager().kernel_spec_manager.kernel_dirs.insert(0, str(spec.parent))
    client.execute(
        env=os.environ | {"IPYTHONDIR": str(tmp_path / "ipython"), "OMP_NUM_THREADS": "1"}
    )
    if path.stem.startswith("1"):  # the line of progress, as it stands in the end
        shown = [
            one.data["text/html"]
            for cell in notebook.cells
            for one in cell.get("outputs", ())
            if "text/html" in one.get("data", {})
        ]
        assert any(text.startswith("<code>round 10/10  test auc 0.9") for text in shown)
        assert any("<table>" in text and "<svg" in text for text in shown)
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    assert last.outputs or "assert" in last.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_outputs_in_git(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)  # type: ignore[no-untyped-call]
    for cell in notebook.cells:
        assert cell.cell_type != "code" or (cell.outputs == [] and cell.execution_count is None)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert set(notebook.metadata.language_info) == {"name"}


def test_there_are_four() -> None:
    assert [path.stem[0] for path in NOTEBOOKS] == ["1", "2", "3", "4"]


def test_a_model_of_ones_own_takes_at_most_fifteen_lines() -> None:
    (cell,) = [one for one in code_of(NOTEBOOKS[2]) if one.startswith("# own lines")]
    lines = [line for line in cell.splitlines()[1:] if line.strip()]
    assert "simulate(" in cell and "nn.Sequential" in cell
    assert len(lines) <= OWN_LINES
    assert ast.parse(cell)
