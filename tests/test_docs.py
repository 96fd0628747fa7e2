"""Documents say what is: keys and defaults, links, settings that validate."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from docs.reference import pages
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.procedures.known import make_procedure
from wardround.common.settings import STATISTICS, FederationTable, NetworkTable, ServerTable
from wardround.server.strategies import INDIVIDUAL, MEAN
from wardround.simulations.default import default_config_text, network_texts

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


def test_the_tables_of_settings_and_the_commands_are_those_of_the_code() -> None:
    """After a change of a setting or an option: `python -m docs.reference`."""
    made = pages()
    assert {"commands.md", "configuration.md", "strategies.md"} <= {path.name for path in made}
    for path, text in made.items():
        assert path.read_text("utf-8") == text, path


def test_every_key_and_option_says_what_it_means() -> None:
    for path, text in pages().items():
        for row in re.findall(r"^\| `.*$", text, re.M):
            assert not row.endswith("|  |"), (path.name, row)


def test_every_key_has_a_range() -> None:
    """A number without bounds is an extreme that nobody thought of."""
    for row in re.findall(r"^\| `.*$", "".join(pages().values()), re.M):
        assert not re.search(r"\| (whole )?number(?! (from|above)) \|", row), row
        found = re.search(r"\| (?:whole )?number ((?:from|above)[^|]*) \|", row)
        assert found is None or re.search(r"(to|below) [\d2]", found[1]), row


def test_every_strategy_is_in_inits_file() -> None:
    assert all(name in default_config_text() for name in MEAN | INDIVIDUAL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_resolve_and_settings_validate(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / link).exists(), link
    for block in re.findall(r"```toml\n(.*?)```", text, re.S):
        if block.startswith("[[procedure.analyses]]"):
            block = f'[procedure]\nname = "statistics"\n{block}'
        config = parse_config(block)
        task = make_task(config)
        if config.procedure.name == STATISTICS:
            make_procedure(config, task)


def test_a_file_that_a_docstring_or_a_comment_names_is_there() -> None:
    """By its path, or the end of it: files move, and what is told of them stays behind."""
    sides = ("client", "common", "server", "simulations")
    folders = (*sides, "benchmarks", "docs", "examples", "tests")
    there = [str(p.relative_to(ROOT)) for one in folders for p in (ROOT / one).rglob("*.py")]
    lost = [
        f"{path.relative_to(ROOT)}: {name}"
        for side in sides
        for path in sorted((ROOT / side).rglob("*.py"))
        for name in re.findall(r"[\w/]*\w+\.py\b", path.read_text("utf-8"))
        if name not in ("path/to/file.py", "FILE.py")
        and not any(one == name or one.endswith(f"/{name}") for one in there)
    ]
    assert lost == []


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


def test_the_files_of_a_new_network_fit_together(tmp_path: Path) -> None:
    """What `wardround init --network` writes: a network whose members can ask that study."""
    texts = network_texts()
    network, study = (parse_config(texts[name]) for name in ("network.toml", "study.toml"))
    assert network.network == NetworkTable() and study.study is not None
    make_task(study)
    assert len(network.server.hospitals) >= study.federation.min_clients
    commented = re.findall(r"# (\w+ = .+?)(?:\s+#.*|\s*)$", texts["network.toml"], re.M)
    for key, value in (one for line in commented for one in tomllib.loads(line).items()):
        tables = (NetworkTable, ServerTable, FederationTable)
        fields = [table.model_fields[key] for table in tables if key in table.model_fields]
        defaults = [field.get_default(call_default_factory=True) for field in fields]
        assert value in defaults or key == "coordinators", key
    assert len(commented) > 8
