"""Fixtures of the text tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.common.tasks.text.tiny import tiny_encoder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT."""
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))
