"""What only a GPU can show: ``make gpu`` on a machine that has one.

Without CUDA all of it is skipped. ``WARDROUND_TEST_DEVICE=cpu`` runs on the CPU what doesn't need a
GPU by itself, so that the tests themselves are tried anywhere; the reference is the CPU's model in
either case.
"""

from __future__ import annotations

import os

import pytest
import torch

_ASKED = os.environ.get("WARDROUND_TEST_DEVICE", "cuda")
_LACKS = "needs an NVIDIA GPU: make gpu, or WARDROUND_TEST_DEVICE=cpu to try the code without one"


@pytest.fixture
def device() -> str:
    """'cuda' where there is one, or what WARDROUND_TEST_DEVICE asks for."""
    if _ASKED == "cuda" and not torch.cuda.is_available():
        pytest.skip(_LACKS)
    return _ASKED


@pytest.fixture
def cuda() -> str:
    """'cuda'; skips without."""
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU: make gpu")
    return "cuda"
