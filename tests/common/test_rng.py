"""Seeds: what is drawn after one is what torch itself would draw."""

from __future__ import annotations

import torch

from wardround.common.rng import seed_torch


def test_a_seed_is_torchs_own() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = torch.rand(3)
        seed_torch(6, torch.device("cpu"))
        assert not torch.equal(torch.rand(3), expected)
        seed_torch(5, torch.device("cpu"))
        assert torch.equal(torch.rand(3), expected)
