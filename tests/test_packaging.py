"""What is installed: every sub-package, and nothing at the top level but ``wardround``."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("client", "common", "server", "simulations")
NOT_IN_WHEEL = {"tests", "benchmarks", "examples", "docs"}


def folders(root: Path) -> set[str]:
    """Dotted names of all folders that hold Python files, and the root that names them."""
    found = {"wardround"}
    for part in PARTS:
        for file in (root / part).rglob("*.py"):
            found.add(".".join(["wardround", *file.parent.relative_to(root).parts]))
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy of the tracked tree, without network."""
    tree, target = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in (*PARTS, "__init__.py", "__main__.py", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        files = [source] if source.is_file() else [p for p in source.rglob("*") if p.is_file()]
        for file in files:
            if "__pycache__" not in file.parts:
                copy = tree / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
    code = f"from setuptools import build_meta as b; print(b.build_wheel({str(target)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = target.glob("*.whl")
    return built


def test_the_packages_list_is_the_folder_tree() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(listed) == folders(ROOT), (
        f"pyproject.toml, [tool.setuptools] packages: {sorted(set(listed) ^ folders(ROOT))}"
    )


def test_the_comparison_sees_an_unlisted_folder(tmp_path: Path) -> None:
    for name in ("common", "common/extra"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").touch()
    assert folders(tmp_path) == {"wardround", "wardround.common", "wardround.common.extra"}


def test_the_wheel_holds_every_file_and_no_top_level_stranger(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for part in PARTS:
        for file in (ROOT / part).rglob("*"):
            if file.suffix in (".py", ".html", ".toml") or file.name == "py.typed":
                assert f"wardround/{file.relative_to(ROOT)}" in names
    beside = {name for name in names if name.startswith("wardround/") and name.count("/") == 1}
    assert beside == {"wardround/__init__.py", "wardround/__main__.py"}, (
        "nothing else of the checkout's own folder"
    )
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"wardround"}
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    assert (
        "wardround = wardround.common.process.main:main"
        in zipfile.ZipFile(wheel).read(entry).decode()
    )


def test_the_installed_wheel_runs_and_leaves_common_alone(wheel: Path, tmp_path: Path) -> None:
    """Not by way of the editable install: what lies in the wheel is all there is."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    code = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)];"
        f"sys.path.insert(0, {str(tmp_path)!r});"
        "import wardround; assert not any(n.startswith('wardround.') for n in sys.modules);"
        f"assert wardround.__version__ == {version!r}, wardround.__version__;"
        "import wardround.common.errors as e; import wardround.simulations as s;"
        f"assert e.__file__.startswith({str(tmp_path)!r}), e.__file__;"
        "import importlib.util as u;"
        "print([n for n in ('common', 'client', 'server', 'simulations') if u.find_spec(n)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"
