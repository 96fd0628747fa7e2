"""Own models between processes: what the simulation gives, masked, and after a restart."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.deployment.harness import federation
from wardround.client.requests.own_model import load_own_model
from wardround.common.config.load import load_config
from wardround.common.config.task import make_task
from wardround.simulations import simulate

APFL = "\n[strategy]\nname = 'apfl'\nmixing = 0.3\n"


def test_own_models_are_the_simulated_ones_and_outlive_their_client(tmp_path: Path) -> None:
    """What a hospital kept of round 1 is on its disk: another process goes on with it. Rounding of
    masked numbers is from the operating system there, from the seed here."""
    with federation(tmp_path, secure=True, rounds=3, extra=APFL) as made:
        made.start()
        made.clients["b"].says("round 1")
        made.clients["b"].kill()
        made.start_client("b")
        made.finish()
        result = simulate(
            made.config,
            overrides=[f"federation.runs='{tmp_path}'", "simulation.baselines=false"],
        )
        task = make_task(load_config(made.config))
        for name in made.names:
            own = load_own_model(made.kit(name) / "model", task, 1, 3).state_dict()
            expected = result.model_of(name).state_dict()
            for key, value in expected.items():
                torch.testing.assert_close(own[key], value, atol=1e-4, rtol=0)
        shared = made.model()
        assert any(abs(shared[k] - v.numpy()).max() > 1e-3 for k, v in expected.items())
