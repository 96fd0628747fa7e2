"""The frozen digests: a few of them hold here, and the command tells what differs."""

from __future__ import annotations

import json

import pytest

from tests.digests import FROZEN, combinations, compare, digests, machine, main

FEW = (
    "binary fedavg masked",
    "binary fedadam plain, mlp",
    "binary examples local",
    "multiclass processes",
    "regression 16 bits",
    "survival masked",
)


def test_models_are_the_frozen_ones() -> None:
    frozen = json.loads(FROZEN.read_text())
    if frozen["machine"] != machine():
        pytest.skip(
            f"frozen with {frozen['machine']}; on this machine: python -m tests.digests --against "
            "ANOTHER-CHECKOUT"
        )
    assert dict(digests(list(FEW))) == {name: frozen["models"][name] for name in FEW}


def test_another_machine_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.digests.machine", lambda: {"torch": "0", "processor": "abacus"})
    monkeypatch.setattr("tests.digests.digests", lambda names: pytest.fail("ran"))
    monkeypatch.setattr("sys.argv", ["digests"])
    with pytest.raises(SystemExit, match="frozen on another machine .*; use --against"):
        main()


def test_every_combination_is_frozen_as_a_model() -> None:
    """Not as a refusal: a net has no holes."""
    models = json.loads(FROZEN.read_text())["models"]
    assert set(models) == set(combinations())
    assert [name for name, text in models.items() if len(text) != 64] == []


def test_a_difference_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare({"a": "1", "b": "2"}, {"a": "1", "b": "3"}) == 1
    assert "differs: b" in capsys.readouterr().out
    assert compare({"a": "1"}, {"a": "1"}) == 0
