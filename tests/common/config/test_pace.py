"""What can't go with buffered rounds is refused by its key, with the mend."""

from __future__ import annotations

import pytest

from wardround.common.config.load import parse_config
from wardround.common.config.pace import CARRIED_BY
from wardround.common.errors import ConfigError
from wardround.common.secagg.content import descriptor
from wardround.server.strategies import INDIVIDUAL, MEAN, build_strategy

BUFFERED = ("federation.buffer=3", 'federation.pace="buffered"')
LOCAL = ("privacy.noise_multiplier=1.0", "privacy.delta=1e-3")
LORA = ('task.name="text"', 'task.tuning="lora"')
OPTIONS = {"feddyn": ("strategy.alpha=0.1",)}


@pytest.mark.parametrize(
    "sets, key, mend",
    [
        (('federation.pace="buffered"',), "federation.buffer", "of how many hospitals"),
        (("federation.buffer=3",), "federation.buffer", "set federation.pace"),
        (("federation.max_staleness=3",), "federation.max_staleness", "set federation.pace"),
        ((*BUFFERED, "federation.buffer=2"), "federation.buffer", "min_cohort 3"),
        ((*BUFFERED, "federation.min_clients=4"), "federation.buffer", "min_clients 4"),
        ((*BUFFERED, "federation.clients_per_round=3"), "federation.clients_per_round", "leave it"),
        ((*BUFFERED, 'strategy.personal_layers=["*"]'), "strategy.personal_layers", "leave"),
        ((*BUFFERED, 'strategy.name="mine.py:Mine"'), "strategy.name", "choose one of fedavg"),
        ((*BUFFERED, 'simulation.partition="virtual"'), "simulation.partition", "choose another"),
        ((*BUFFERED, *LORA, 'task.lora_aggregation="products"'), "task.lora_aggregation", "leave"),
        ((*BUFFERED, *LORA, "task.lora_error=true"), "task.lora_error", "leave it out"),
        ((*BUFFERED, "compression.bits=8"), "compression", "leave"),
        ((*BUFFERED, 'procedure.name="describe"'), "federation.pace", "leave it out"),
        ((*BUFFERED, *LOCAL, 'privacy.unit="hospital"'), "privacy.unit", "'patient' or 'example'"),
        (
            (*BUFFERED, *LOCAL, 'privacy.unit="patient"', 'privacy.noise="distributed"'),
            "privacy.noise",
            "privacy.noise = 'local'",
        ),
        (
            (*BUFFERED, *LOCAL, 'privacy.unit="patient"', 'privacy.clipping="adaptive"'),
            "privacy.clipping",
            "'flat' or 'per_layer'",
        ),
    ],
)
def test_refused_by_key_and_mend(sets: tuple[str, ...], key: str, mend: str) -> None:
    with pytest.raises(ConfigError, match=mend) as found:
        parse_config("", sets)
    assert f"{key}: " in str(found.value)


@pytest.mark.parametrize("name", sorted({*MEAN, *INDIVIDUAL}))
def test_only_strategies_that_need_the_mean_of_changes(name: str) -> None:
    sets = [*BUFFERED, f'strategy.name="{name}"', *OPTIONS.get(name, ())]
    if name in CARRIED_BY:
        assert build_strategy(parse_config("", sets)).algorithm == "plain"
        return
    with pytest.raises(ConfigError, match=f"'{name}' can't be"):
        parse_config("", sets)


def test_every_key_of_it_is_agreed_on_and_none_where_rounds_are_synchronous() -> None:
    """So a server can't have another K or cap than the hospitals, and plans of before stay."""
    first = descriptor(parse_config("", BUFFERED))
    others = [
        parse_config("", [*BUFFERED, "federation.buffer=4"]),
        parse_config("", [*BUFFERED, "federation.max_staleness=3"]),
        parse_config(""),
    ]
    assert len({first, *map(descriptor, others)}) == 4
    assert "pace" not in others[-1].to_toml()
