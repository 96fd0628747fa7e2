"""A task is found by name or file; whatever is wrong with it names file and class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from wardround.common.errors import TaskError
from wardround.common.tasks import Task, load_task
from wardround.common.tasks.tabular import TabularTask

OWN = """
import torch
from torch import nn
from wardround.common.tasks import Task

class Mine(Task):
    def __init__(self, width=3):
        if width < 1:
            raise ValueError("width must be at least 1")
        self.width = width
    def load(self, path):
        return None
    def model(self, totals):
        return nn.Linear(self.width, 1)
    def loss(self, outputs, targets):
        return outputs[:, 0] - targets
    def metrics(self, outputs, targets):
        return {}
    def summarise(self, sums):
        return {}

class Half(Task):
    def load(self, path):
        return None
    def model(self, totals):
        return nn.Linear(1, 1)

class Other:
    pass

def function():
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("x = 1\nimport no_such_module_here\n")
    (tmp_path / "syntax.py").write_text("x = 1\n\ndef f(:\n")
    return tmp_path


def test_the_built_in_task_takes_its_options() -> None:
    task = load_task("tabular", {"kind": "regression", "columns": {"target": "y"}})
    assert isinstance(task, TabularTask) and task.kind == "regression"


def test_wrong_options_of_the_built_in_task_pass_as_they_are() -> None:
    with pytest.raises(ValidationError, match="normalize"):
        load_task("tabular", {"normalize": "local"})


def test_a_users_own_task_is_found_from_the_base_folder(folder: Path, monkeypatch) -> None:
    task = load_task("own.py:Mine", {"width": 5}, folder)
    assert isinstance(task, Task) and task.model({}).in_features == 5  # type: ignore[union-attr]
    assert load_task(f"{folder / 'own.py'}:Mine", {}).width == 3  # type: ignore[attr-defined]
    monkeypatch.chdir(folder)
    assert load_task("own.py:Mine", {}).width == 3  # type: ignore[attr-defined]


def test_a_users_own_task_has_the_defaults_of_the_contract(folder: Path) -> None:
    task = load_task("own.py:Mine", {}, folder)
    assert task.warnings(None) == task.left_out(None) == [] and task.patients(None) is None
    assert task.phases == 0 and task.statistics(None, 0, {}) == {}
    assert task.condense({"n": np.ones(1)}) == {"n": np.ones(1)}
    assert (task.primary_metric, task.higher_is_better) == ("loss", False)


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("tabula", {}, ["unknown task 'tabula'", "'tabular'"]),
        ("none.py:Mine", {}, ["none.py", "no such file"]),
        ("broken.py:Mine", {}, ["broken.py:2", "no_such_module_here"]),
        ("syntax.py:Mine", {}, ["syntax.py:3", "SyntaxError"]),
        ("own.py:Absent", {}, ["own.py", "no class 'Absent'"]),
        ("own.py:", {}, ["own.py"]),
        ("own.py:Other", {}, ["own.py", "'Other' is not a subclass of Task"]),
        ("own.py:function", {}, ["own.py", "'function' is not a subclass of Task"]),
        ("own.py:Half", {}, ["own.py", "'Half' lacks the methods loss, metrics, summarise"]),
        ("own.py:Mine", {"depth": 2}, ["task.depth", "Mine has no such option", "width"]),
        ("own.py:Mine", {"width": 0}, ["own.py:Mine", "width must be at least 1"]),
    ],
)
def test_what_is_wrong_names_file_and_class(folder: Path, name, options, parts) -> None:
    with pytest.raises(TaskError) as caught:
        load_task(name, options, folder)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
