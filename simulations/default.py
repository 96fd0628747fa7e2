"""The configuration to start from: what ``wardround init`` writes, and runs where there is none."""

from __future__ import annotations

from pathlib import Path


def default_config_text() -> str:
    """The commented ``federation.toml``."""
    return Path(__file__).with_name("default.toml").read_text("utf-8")
