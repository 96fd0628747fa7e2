"""Same configuration and seed: between processes comes out what the simulation gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.deployment.harness import Federation
from wardround.simulations import simulate


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_the_deployed_model_is_the_simulated_one(
    secure: bool,
    undisturbed: Federation,
    undisturbed_secure: Federation,
    tmp_path: Path,
) -> None:
    deployed = undisturbed_secure if secure else undisturbed
    result = simulate(
        deployed.config,
        overrides=[f"federation.runs='{tmp_path}'", "simulation.baselines=false"],
    )
    simulated = load_file(result.run_directory / "model" / "model.safetensors")
    for name, value in deployed.model().items():
        if secure:  # rounding is from the operating system there, from the seed here
            np.testing.assert_allclose(value, simulated[name], atol=1e-5)
        else:
            assert value.tobytes() == simulated[name].tobytes()
    if not secure:
        figures = [row["overall"] for row in deployed.rounds()]
        assert figures == [row["overall"] for row in result.rounds]
