"""Failures that the server doesn't see are counted; after some a person must look."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from wardround.client.site.failures import Failures, resume
from wardround.common.errors import ProvisionError, StoppedAfterFailures


def test_a_count_is_of_all_runs_survives_the_process_and_stops_it(tmp_path: Path) -> None:
    for number in range(3):
        failures = Failures(tmp_path)
        failures.check(3)
        failures.note(f"run {number}", "train 1", "not finite")
    assert Failures(tmp_path).count() == 3
    with pytest.raises(StoppedAfterFailures, match=r"after 3 failures; a person there must look"):
        Failures(tmp_path).check(3)
    Failures(tmp_path).check(4)
    path = tmp_path / "failures.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_who_looks_sees_the_reasons_and_the_count_is_cleared(tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    for number in range(25):
        failures.note("one", f"train {number}", "an output is\nnot finite")
    lines = resume(tmp_path)
    assert len(lines) == 21 and "train 24: an output is not finite" in lines[-2]
    assert "train 5:" in lines[0] and failures.count() == 0
    failures.check(1)
    assert resume(tmp_path) == ["no failure is kept: there is nothing to resume from"]


def test_new_runs_push_no_failure_out_of_the_count(tmp_path: Path) -> None:
    """A server begins as many runs as it likes."""
    failures = Failures(tmp_path)
    for number in range(120):
        failures.note(f"run {number}", "train 1", "not finite")
    assert failures.count() == 120
    assert len(json.loads((tmp_path / "failures.json").read_bytes())["runs"]) == 51


def test_a_failure_that_cant_be_kept_is_counted_and_doesnt_show(tmp_path: Path) -> None:
    failures = Failures(tmp_path / "nowhere")
    (tmp_path / "nowhere").write_text("a file, where the folder should be")
    failures.note("one", "train 1", "no memory")
    with pytest.raises(StoppedAfterFailures):
        failures.check(1)


@pytest.mark.parametrize("text", ["{", "[]", '{"runs": {}}', '{"format": "other"}'])
def test_a_damaged_file_is_not_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "failures.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ProvisionError, match="failures"):
        Failures(tmp_path).count()
