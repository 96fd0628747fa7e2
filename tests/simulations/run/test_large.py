"""What lies in files while a run works is what lies in memory: the same model, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from wardround.common import mapped
from wardround.common.durable.tensors import read_tensors
from wardround.common.flower.arrays import digest_arrays
from wardround.simulations import simulate


@pytest.mark.parametrize(
    "more", [[], ["secure_aggregation.enabled=false"]], ids=["masked", "plain"]
)
def test_a_run_in_files_gives_the_model_of_a_run_in_memory(
    tmp_path: Path, monkeypatch, more: list[str]
) -> None:
    digests = []
    for place in (None, tmp_path / "spool"):
        runs = tmp_path / f"runs-{place is None}"
        if place is not None:
            place.mkdir()
            mapped.keep_in(place)
            monkeypatch.setattr(mapped, "LARGE_BYTES", 1)
        result = simulate(
            overrides=[
                f"federation.runs={runs}",
                "federation.rounds=2",
                "simulation.baselines=false",
                'task.model.kind="mlp"',
                "task.model.hidden=[270, 260]",  # one array beyond what is read at once
                *more,
            ]
        )
        arrays, _ = read_tensors(result.run_directory / "model" / "model.safetensors")
        digests.append(digest_arrays(arrays))
        assert place is None or mapped.is_mapped(next(iter(arrays.values())))
    assert digests[0] == digests[1]
    assert list((tmp_path / "spool").iterdir()) == []
