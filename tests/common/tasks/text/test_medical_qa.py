"""The example's data: every document once, the published test held out, unlike hospitals."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.common.tasks.text.causal.tiny import tiny_llama
from tests.federate import ROOT
from wardround.common.config.load import load_config
from wardround.common.config.task import make_task

EXAMPLE = ROOT / "examples" / "medical_qa"


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_medical_qa", EXAMPLE / "prepare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def document(year: str | None, answer: str, text: str) -> dict[str, object]:
    return {
        "YEAR": year,
        "CONTEXTS": [text, "It was fever ."],
        "QUESTION": "Is it fever ?",
        "final_decision": answer,
    }


@pytest.mark.parametrize("settings", ["federation.toml", "private.toml"])
def test_each_document_is_at_one_hospital(
    prepare: ModuleType, tmp_path: Path, settings: str
) -> None:
    documents = {
        "1": document("1999", "yes", "One ."),
        "2": document("2006", "no", "Two ."),
        "3": document("2007", "maybe", "Three ."),
        "4": document("2013", "yes", "Four ."),
        "5": document(None, "no", "Five ."),
        "6": document("2017", "yes", "Six ."),
    }
    (tmp_path / "documents.json").write_text(json.dumps(documents))
    (tmp_path / "test.json").write_text(json.dumps({"2": "no", "5": "no"}))
    folder = tmp_path / "hospitals"
    counts = prepare.write(tmp_path / "documents.json", tmp_path / "test.json", folder)
    assert counts == {"early": [1, 1], "middle": [1, 0], "late": [1, 1], "recent": [1, 0]}
    base = tiny_llama(tmp_path / "base")
    sets = [f'data.path="{folder}"', f'task.base_model="{base}"']
    config = load_config(EXAMPLE / settings, sets)
    task: Any = make_task(config)
    found = {}
    for name, path in task.sites(folder).items():
        raw = task.load(path)
        for number, patient in enumerate(raw.patients):
            found[patient] = (name, raw.splits[number], config_choice(raw.right[number]))
    assert found == {
        "1": ("early", "train", "yes"),
        "2": ("early", "test", "no"),
        "3": ("middle", "train", "maybe"),
        "4": ("late", "train", "yes"),
        "5": ("late", "test", "no"),
        "6": ("recent", "train", "yes"),
    }


def config_choice(number: int) -> str:
    return ("yes", "no", "maybe")[number]
