"""Every strategy has its options in one typed table, held against the number of hospitals."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError
from wardround.common.settings.strategies import STRATEGIES
from wardround.server.strategies import INDIVIDUAL, MEAN, build_strategy, check_hospitals

PLAIN = "[secure_aggregation]\nenabled = false\n[strategy]\n"


def test_each_strategy_has_a_table_with_the_defaults_of_the_class_that_works() -> None:
    assert STRATEGIES.keys() == MEAN.keys() | INDIVIDUAL.keys()
    for name, table in STRATEGIES.items():
        parameters = inspect.signature((MEAN | INDIVIDUAL)[name]).parameters
        for key, field in table.model_fields.items():
            assert parameters[key].default == field.default, (name, key)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("fedprox", "proximal_mu", "-1.0"),
        ("fedprox", "proximal_mu", "nan"),
        ("fedavgm", "server_learning_rate", "0.0"),
        ("fedavgm", "server_momentum", "1.5"),
        ("fedadam", "beta_1", "1.0"),
        ("fedadam", "eta_l", "0.1"),
        ("fedyogi", "tau", "0.0"),
        ("feddyn", "alpha", "-1.0"),
        ("multikrum", "num_nodes_to_select", "0"),
        ("krum", "num_malicious_nodes", "-1"),
        ("fedtrimmedavg", "beta", "0.5"),
        ("scaffold", "server_learning_rate", "inf"),
    ],
)
def test_an_option_out_of_range_is_refused_by_its_key(name: str, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^configuration:5: strategy.{key}: "):
        parse_config(f"{PLAIN}name = '{name}'\n{key} = {value}\n")


@pytest.mark.parametrize(
    ("name", "options", "hospitals", "message"),
    [
        ("krum", {"num_malicious_nodes": 10}, 5, "num_malicious_nodes: .*set it to 1 at most"),
        ("krum", {}, 2, "strategy.name: 'krum': needs 3 hospitals"),
        ("bulyan", {"num_malicious_nodes": 1}, 5, "num_malicious_nodes: .*set it to 0 at most"),
        ("multikrum", {"num_nodes_to_select": 6}, 5, "num_nodes_to_select: .*set it to 5 at most"),
        ("fedtrimmedavg", {"beta": 0.2}, 4, "beta: .*set it to 0.25 or more"),
        ("fedtrimmedavg", {"beta": 0.2}, 3, "beta: .*set it to 0.334 or more"),
    ],
)
def test_options_are_held_against_the_number_of_hospitals(
    name: str, options: dict[str, Any], hospitals: int, message: str
) -> None:
    """And what the message advises is accepted."""
    text = f"{PLAIN}name = '{name}'\n" + "".join(f"{k} = {v}\n" for k, v in options.items())
    config = parse_config(text)
    with pytest.raises(ConfigError, match=message) as caught:
        check_hospitals(config, hospitals)
    words = str(caught.value).partition("set it to ")[2].split()
    if words:
        (key,) = options
        check_hospitals(parse_config(text, [f"strategy.{key}={words[0]}"]), hospitals)
    else:
        check_hospitals(parse_config(text, ["strategy.name=fedmedian"]), hospitals)


def test_a_cohort_counts_as_many_hospitals_as_are_drawn() -> None:
    text = f"[federation]\nclients_per_round = 3\n{PLAIN}name = 'krum'\nnum_malicious_nodes = 1\n"
    with pytest.raises(ConfigError, match="among 3 hospitals a round"):
        check_hospitals(parse_config(text), 50)


def test_a_rule_needs_its_answers_whatever_min_clients_says() -> None:
    text = f"[federation]\nmin_clients = 2\n{PLAIN}name = 'bulyan'\nnum_malicious_nodes = 1\n"
    assert build_strategy(parse_config(text)).fewest == 7
    assert build_strategy(parse_config("")).fewest == 1
