"""A user's file runs once per path and content, and its classes are the same wherever asked for."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from wardround.common.config.load import parse_config
from wardround.common.errors import TaskError
from wardround.common.tasks.loading import load_object
from wardround.simulations.run.simulate import simulate

COUNTED = """
from pathlib import Path
from tests.federate import Line

with open(Path(__file__).with_name("runs"), "a") as file:
    file.write("x")

class Base:
    number = 1

class Mine(Base, Line):
    def __init__(self):
        Line.__init__(self)
"""


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(COUNTED)
    return tmp_path / "own.py"


def load(file: Path, name: str) -> type[object]:
    return load_object(f"{file.name}:{name}", file.parent, object, TaskError)


def test_two_classes_of_a_file_are_of_one_run_by_whatever_path(file: Path) -> None:
    (file.parent / "inside").mkdir()
    (file.parent / "link.py").symlink_to(file)
    mine = load(file, "Mine")
    assert issubclass(mine, load(file, "Base"))
    assert load_object("../own.py:Mine", file.parent / "inside", object, TaskError) is mine
    assert load_object(f"{file}:Mine", Path("/"), object, TaskError) is mine
    assert load(file.parent / "link.py", "Mine") is mine
    assert runs(file.parent) == 1


def test_threads_that_ask_at_once_run_it_once(file: Path) -> None:
    found: list[type[object]] = []
    threads = [threading.Thread(target=lambda: found.append(load(file, "Mine"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1 and runs(file.parent) == 1


def test_an_edited_file_is_run_anew_also_within_the_same_second_and_size(file: Path) -> None:
    times = os.stat(file)
    first = load(file, "Base")
    file.write_text(COUNTED.replace("number = 1", "number = 2"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = load(file, "Base")
    assert (vars(first)["number"], vars(second)["number"]) == (1, 2)
    file.write_text(COUNTED)
    assert load(file, "Base") is first and runs(file.parent) == 2


def test_a_file_that_failed_is_tried_again(tmp_path: Path) -> None:
    broken = "import pathlib\nif not pathlib.Path(__file__).with_name('there').exists(): 1 / 0\n"
    (tmp_path / "own.py").write_text(broken + "class Mine: pass\n")
    with pytest.raises(TaskError, match="own.py:2: import failed: ZeroDivisionError"):
        load(tmp_path / "own.py", "Mine")
    (tmp_path / "there").touch()
    assert load(tmp_path / "own.py", "Mine").__name__ == "Mine"


def test_a_simulation_runs_it_once_and_leaves_nothing_beside_it(file: Path) -> None:
    settings = [
        "task.name = 'own.py:Mine'",
        "federation.rounds = 1",
        "simulation.clients = 3",
        "federation.runs = 'runs-of-it'",
    ]
    simulate(parse_config("\n".join(settings), path=file.parent / "federation.toml"))
    assert runs(file.parent) == 1
    assert not list(file.parent.rglob("__pycache__"))
