"""The names that a program may build on: what goes is a change that the changelog tells.

A new name is added here by hand; so is a parameter.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NAMES: dict[str, dict[str, str | None]] = {
    "wardround.simulations": {
        "Analysis": None,
        "Choice": None,
        "Config": None,
        "PrivacyPlan": None,
        "Range": None,
        "Result": None,
        "SweepResult": None,
        "TuneResult": None,
        "analyse": "config overrides resume observer",
        "load_config": "path overrides",
        "load_model": "folder hospital own_rows device task encoder model",
        "parse_config": "text overrides path",
        "privacy_plan": "config overrides sizes",
        "simulate": "config data target positive model overrides resume task observer progress",
        "sweep": "config grid seeds overrides resume observer",
        "tune": "config params trials overrides seed prune resume observer",
    },
    "wardround.common.tasks": {
        "Examples": None,
        "Sums": None,
        "Task": None,
        "built_in": "name",
        "load_task": "name options base",
    },
    "wardround.common.procedures": {
        "Asked": None,
        "Config": None,
        "Earlier": None,
        "FinishedModel": None,
        "Parts": None,
        "Procedure": None,
        "Shapes": None,
        "Words": None,
        "fitting_bits": "largest_total",
    },
    "wardround.common.predict": {
        "Predictions": None,
        "Predictor": None,
        "load_model": "folder hospital own_rows device task encoder model",
    },
    "wardround.common.drift.surge": {
        "surges": "counts rows",
    },
    "wardround.client.app": {
        "create_client_app": "open_hospital models outward",
    },
    "wardround.client.researcher": {
        "Network": None,
    },
    "wardround.server.provision.kits": {
        "provision": "config members now",
    },
    "wardround.client.site.kit": {
        "Kit": None,
    },
    "wardround.client.models.find": {
        "find_model": "kit text unsigned today",
    },
    "wardround.client.calibration.calibrate": {
        "calibrate": "kit data model method rules held_out keep unsigned today",
        "own_calibration": "kit folder",
    },
    "wardround.simulations.flower": {
        "open_federation": "context",
        "open_hospital": "context",
    },
    "wardround.server.app": {
        "create_server_app": "open_federation on_finish",
    },
    "wardround.common.figures.sums": {
        "Sums": None,
        "binary_figures": "sums",
        "binary_sums": "probabilities_N targets_N bins",
        "multiclass_figures": "sums",
        "multiclass_sums": "probabilities_NC targets_N bins",
    },
    "wardround.common.tasks.base": {
        "Examples": None,
        "Task": None,
    },
}
"""By module: each public name with a function's parameters, or None for a class."""
TEXTS = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")]


def parameters(thing: Any) -> str | None:
    if inspect.isclass(thing):
        return None
    return " ".join(inspect.signature(thing).parameters)


def imported_by_examples() -> Iterator[tuple[str, str, str]]:
    """(place, module, name) of what documents and examples import of ours."""
    texts = {path: path.read_text("utf-8") for path in ROOT.glob("examples/**/*.py")}
    for page in TEXTS:
        blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)
        texts[page] = "\n".join(blocks)
    for path, text in sorted(texts.items()):
        for line in text.splitlines():
            if re.match(r" *from wardround[\w.]* import [\w, ]+$", line):
                (node,) = ast.parse(line.strip()).body
                assert isinstance(node, ast.ImportFrom)
                for one in node.names:
                    yield str(path.relative_to(ROOT)), str(node.module), one.name


@pytest.mark.parametrize(
    "module",
    [
        "wardround.simulations",
        "wardround.common.tasks",
        "wardround.common.predict",
        "wardround.common.procedures",
        "wardround.client.researcher",
    ],
)
def test_what_a_module_offers_is_what_is_written_here(module: str) -> None:
    offered = importlib.import_module(module).__all__
    assert sorted(offered) == sorted(NAMES[module])


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in NAMES.items() for name in names]
)
def test_a_public_name_is_there_and_takes_what_it_took(module: str, name: str) -> None:
    thing = getattr(importlib.import_module(module), name)
    types = ("Sums", "Earlier", "Parts", "Shapes")  # names of types that others make
    assert name in types or parameters(thing) == NAMES[module][name]


def test_examples_use_public_names_only() -> None:
    found = list(imported_by_examples())
    assert len(found) > 5
    assert [one for one in found if one[2] not in NAMES.get(one[1], {})] == []
