"""The configuration to start from: what ``wardround init`` writes, and runs where there is none."""

from __future__ import annotations

from pathlib import Path


def default_config_text() -> str:
    """The commented ``federation.toml``."""
    return Path(__file__).with_name("default.toml").read_text("utf-8")


def network_texts() -> dict[str, str]:
    """The commented files to start a network from, by name: the coordinator's, and a study."""
    here = Path(__file__)
    return {
        name: here.with_name(name).read_text("utf-8") for name in ("network.toml", "study.toml")
    }
