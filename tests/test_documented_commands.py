"""E5: every command that a document shows is one that the command line understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from wardround.common.config.load import config_text, parse_config
from wardround.common.config.task import make_task
from wardround.common.process.main import app
from wardround.server.strategies import build_strategy
from wardround.simulations.default import default_config_text
from wardround.simulations.search.space import read_param
from wardround.simulations.search.values import split_option, split_values

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")]
HOLDERS = {"KEY=VALUE", "TABLE.KEY=VALUE"}


def commands() -> Iterator[str]:
    """Whole commands, of blocks and of inline code, once each."""
    found = set()
    for page in sorted(PAGES):
        if page.name == "commands.md":
            continue  # usage lines, made from the command line itself
        text = page.read_text("utf-8").replace("\\\n", " ")
        for line in re.findall(r"(?m)^ *(wardround [a-z].*)$|`(wardround [a-z][^`]*)`", text):
            found.add(re.sub(r"\s+", " ", (line[0] or line[1]).partition(" #")[0]).strip())
    yield from sorted(found)


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The command's name and its parameters, none of a command that is only named.

    Raises click's error for what it doesn't know.
    """
    command: Any = typer.main.get_command(app)
    name = []
    while hasattr(command, "commands"):
        name.append(words[0])
        command, words = command.get_command(None, words[0]), words[1:]
    if not words and any(one.required for one in command.params):
        return " ".join(name), {}
    return " ".join(name), command.make_context(" ".join(name), words).params


@pytest.mark.parametrize("text", list(commands()))
def test_a_documented_command_is_understood(text: str) -> None:
    words = shlex.split(text)[1:]
    if len(words) == 1 or words[-1] == words[0]:
        assert words[0] in typer.main.get_command(app).commands  # named, not shown
        return
    name, values = parsed(words)
    if name not in ("simulate", "tune", "privacy plan", "privacy audit"):
        return
    sets = [one for one in values.get("overrides") or [] if one not in HOLDERS]
    if executor := values.get("executor"):
        sets += [f"simulation.executor={executor}"] if executor != "NAME" else []
    for option in values.get("sweeps") or []:
        key, given = split_option("--sweep", option)
        sets.append(f"{key}={split_values('--sweep', key, given)[0]}")
    for option in values.get("params") or []:
        read_param(option)
    file = ROOT / str(values.get("config"))
    example = file.is_file()
    config = parse_config(
        config_text(file) if example else default_config_text(), sets, file if example else None
    )
    make_task(config)
    build_strategy(config)


def test_documents_show_commands() -> None:
    assert len(list(commands())) > 40


def test_the_task_documents_own_command_works_with_inits_file(tmp_path: Path) -> None:
    """`wardround simulate federation.toml --task FILE:CLASS`, after `wardround init`."""
    example = ROOT / "examples" / "own_task"
    (name,) = re.findall(r'name = "(.*)"', (example / "federation.toml").read_text())[-1:]
    (file,) = [x for x in example.glob("*.py")]
    sets = [f'task.name="{file}:{name.rpartition(":")[2]}"']
    config = parse_config(default_config_text(), sets, tmp_path / "federation.toml")
    assert config.task.options == {} and make_task(config).phases >= 0
