"""Examples in docstrings do what they say, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import wardround.common.tasks
import wardround.simulations

ROOT = Path(__file__).parent.parent
SIDES = ("client", "common", "server", "simulations")
MODULES = [
    "wardround." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for side in SIDES
    for path in sorted((ROOT / side).rglob("*.py"))
    if ">>> " in path.read_text("utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # runs are made in the folder that one is in
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0, f"{name}: its examples say something else (see the output)"


@pytest.mark.parametrize("package", [wardround.simulations, wardround.common.tasks])
def test_every_public_name_has_an_example(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    things = {name: getattr(package, name) for name in names}
    lacking = [
        name
        for name, thing in things.items()
        if (inspect.isclass(thing) or inspect.isfunction(thing))
        and ">>> " not in (thing.__doc__ or "")
    ]
    assert lacking == [], f"{package}: no example in the docstring of {', '.join(lacking)}"
