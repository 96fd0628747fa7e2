"""What CI and pre-commit run is what is written here, and nothing that can be swapped."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FOLDERS = ("client", "common", "deploy", "docs", "examples", "server", "simulations", "tests")
INDEX = "index" + "-url"


@pytest.fixture(scope="module")
def texts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("texts", ROOT / ".ci" / "texts.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_stands_by_its_commit_and_says_its_version(path: Path) -> None:
    used = re.findall(r"uses: *(.*)", path.read_text())
    assert used
    for one in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one), one


def test_ci_runs_what_a_developer_runs_on_every_python_that_is_promised() -> None:
    (job,) = yaml.safe_load(WORKFLOWS[0].read_text())["jobs"].values()
    rows = job["strategy"]["matrix"]["include"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert [row["python"] for row in rows] == promised
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert targets is not None and {row["tests"] for row in rows} <= set(targets[1].split())
    (python,) = [step["with"] for step in job["steps"] if "python-version" in step.get("with", {})]
    assert python["cache"] == "pip"


def test_hooks_are_the_checkouts_own_tools() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}
    assert {hook["id"] for hook in repo["hooks"]} == {"ruff", "ruff-format", "texts", "mypy"}


def test_texts_end_as_they_should(texts: ModuleType) -> None:
    files = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in (*FOLDERS, ".ci", ".github"):
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    left = {"runs", "data", "provision"}  # what who tries an example leaves there
    made = {x for x in files if x.is_relative_to(ROOT / "examples") and left & set(x.parts)}
    files = [x for x in files if x.suffix not in (".pyc", ".png") and x not in made]
    assert {str(path): found for path in files if (found := texts.problems(path))} == {}


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("x.py", "a", "newline"),
        ("x.py", "a\n\n", "newline"),
        ("x.py", "a \n", "blank"),
        ("x.py", "a\r\n", "carriage"),
        ("x.toml", f"{INDEX} = 'somewhere'\n", "index"),
        ("x.sh", f"pip install --extra-{INDEX} somewhere x\n", "index"),
        ("constraints.txt", "torch>=2\n", "pin"),
        ("constraints.txt", "torch==2.0 --hash=x\n", "pin"),
    ],
)
def test_a_text_that_does_not_is_named(texts, tmp_path: Path, name, text, what) -> None:
    (tmp_path / name).write_bytes(text.encode())
    found = texts.problems(tmp_path / name)
    assert found and what in found[0]
