"""Documents say what is: keys and defaults, links, settings that validate."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from wardround.common.config import Config, parse_config
from wardround.common.tasks.configured import make_task
from wardround.common.tasks.options import Columns, ModelOptions, TabularOptions
from wardround.server.strategies import INDIVIDUAL, MEAN
from wardround.simulations.runner import default_config_text

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/**/*.md")])
NO_DEFAULT = {
    "federation.clients_per_round",
    "evaluation.clients",
    "training.max_grad_norm",
    "training.micro_batch_size",
    "secure_aggregation.max_examples",
    "privacy.epsilon",
    "privacy.noise_multiplier",
    "privacy.epsilon_limit",
}
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """Key to default text of one table of docs/configuration.md."""
    section = CONFIGURATION.split(f"## `[{heading}]`")[1].split("\n## ")[0]
    return {k: d.strip("`") for k, d in re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, re.M)}


@pytest.mark.parametrize("table", [name for name in Config.model_fields if name != "task"])
def test_every_key_is_documented_with_its_default(table: str) -> None:
    fields = Config.model_fields[table].annotation.model_fields
    documented = rows(table)
    assert set(documented) == set(fields)
    for key, field in fields.items():
        if field.default is not None:
            assert tomllib.loads(f"x = {documented[key]}")["x"] == field.default, key


def test_the_tabular_tasks_keys_are_documented() -> None:
    documented = rows("task")
    assert set(documented) == set(TabularOptions.model_fields) - {"columns", "model"}
    for key, text in documented.items():
        default = TabularOptions.model_fields[key].default
        if default is not None:
            assert tomllib.loads(f"x = {text}")["x"] == default, key
    for key in [*Columns.model_fields, *ModelOptions.model_fields]:
        assert f"`{key}`" in CONFIGURATION


def test_every_strategy_is_documented() -> None:
    text = (ROOT / "docs" / "strategies.md").read_text()
    for name in MEAN | INDIVIDUAL:
        assert f"`{name}`" in text
        assert name in default_config_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_resolve_and_settings_validate(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / link).exists(), link
    for block in re.findall(r"```toml\n(.*?)```", text, re.S):
        make_task(parse_config(block))


def test_the_commented_defaults_of_the_default_file_are_the_defaults() -> None:
    """The value of a '# key = value' line of default.toml is the one without it."""
    table, seen, changed = "", 0, []
    for line in default_config_text().splitlines():
        if header := re.match(r"\[(.+)\]", line):
            table = header[1]
        found = re.match(r"# (\w+) = (.+?)(?:\s+#.*|\s*)$", line)
        if found and not table.startswith("task") and table != "strategy":
            seen += 1
            field = Config.model_fields[table].annotation.model_fields[found[1]]
            same = tomllib.loads(f"x = {found[2]}")["x"] == field.default
            if not same and f"{table}.{found[1]}" not in NO_DEFAULT:
                changed.append(found[1])
    assert changed == [] and seen > 50
