"""What small messages may be asked for, and what of it is refused by its name."""

from __future__ import annotations

import pytest
import tomli_w

from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError
from wardround.common.run.shaping import check_same, digest, shaping
from wardround.common.secagg.content import descriptor
from wardround.common.settings import CompressionTable
from wardround.common.trust.description import study_tables


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("first_scale = 0.1", "compression.first_scale: has no effect without compression.bits"),
        ('rotation = "hadamard"', "compression.rotation: has no effect without compression.bits"),
        ("bits = 4", "compression.bits: "),
        ('bits = 8\n[privacy]\nunit = "example"\nepsilon = 1.0', "[compression] beside [privacy]"),
        ('bits = 8\n[strategy]\nname = "scaffold"', "beside strategy.name = 'scaffold'"),
        ('bits = 8\n[procedure]\nname = "describe"', "beside a procedure that trains nothing"),
    ],
)
def test_what_does_nothing_is_refused(setting: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(f"[compression]\n{setting}\n")
    assert told in str(refused.value)


def test_a_run_without_it_is_what_it_was() -> None:
    """The identity of runs, the settings under every mask and plans don't know the table then."""
    plain, named = parse_config(""), parse_config("[compression]\n")
    assert not any(key.startswith("compression") for key in shaping(plain, True))
    assert "compression" not in study_tables(plain)
    assert descriptor(plain) == descriptor(named)
    assert digest(plain, True) == digest(named, True)
    assert parse_config(plain.to_toml()).compression == CompressionTable()
    check_same(plain, named, True, "run")


@pytest.mark.parametrize("lines", ["", "bits = 8\n", "bits = 16\nrotation = 'none'\n"])
def test_what_is_written_is_read_again(lines: str) -> None:
    """As a run directory and as a study have it: the same run."""
    config = parse_config(f"[compression]\n{lines}")
    for text in (config.to_toml(), tomli_w.dumps(study_tables(config))):
        again = parse_config(text)
        assert again.compression == config.compression
        assert ("compression" in text) == bool(lines)
    assert digest(parse_config(config.to_toml()), False) == digest(config, False)
