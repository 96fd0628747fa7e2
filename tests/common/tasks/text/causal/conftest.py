"""Fixtures of the language models' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.common.tasks.text.causal.tiny import tiny_llama


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a chat template."""
    return tiny_llama(tmp_path_factory.mktemp("llama"))
