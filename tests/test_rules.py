"""Rules of the house that a reader can rely on: who imports whom, what is never used, sizes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import Source, read

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "common": {"common"},
    "client": {"client", "common"},
    "server": {"server", "common"},
    "simulations": {"client", "common", "server", "simulations"},
}
FLOWER = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy"}
HOST = "common/flower/hosting.py"
HANDLES_FLOWER = {
    "common/flower": "records, bytes, hosts: the others have Flower's handles from here",
    "common/durable/records.py": "records on disk",
    "common/joint/seat.py": "what a party must not forget, in its host's records",
    "common/process/logs.py": "what Flower has done to the log",
    "common/protocol": "typed messages",
    "common/secagg/content.py": "the digest of a request as it came",
    "client/app.py": "the hospital's app",
    "client/site/gate.py": "judges the records that would leave",
    "client/state.py": "what a context remembers",
    "server/app.py": "the server's app",
    "server/gathering": "between the strategy's messages and ours",
    "server/joint": "between parties, who are asked one by one",
    "server/strategies": "Flower's strategies, and ours behind the same interface",
    "server/transport": "a grid over connections",
    "simulations/clients.py": "a grid in one process",
    "simulations/grid.py": "the same",
    "simulations/executors": "who runs its clients",
    "simulations/flower.py": "Flower's own engine",
    "simulations/run/client_states.py": "what simulated contexts remember, in files",
}
"""Rooms and files that import flwr, and why; nobody else does, so that an upgrade of Flower is
theirs alone."""
FORBIDDEN = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
LONGEST_FILE, LONGEST_FUNCTION = 400, 50
pytestmark = pytest.mark.xdist_group("sources")


def imports(source: Source) -> Iterator[tuple[int, str]]:
    for one in source.imports:
        yield one.line, one.module
        if one.names is not None and one.module in ("wardround", "flwr"):
            yield from ((one.line, f"{one.module}.{name}") for name in one.names)


def violations(root: Path) -> list[str]:
    """Every broken rule below ``root`` as 'file:line: what'."""
    found = []
    for part, allowed in MAY_IMPORT.items():
        for path in sorted((root / part).rglob("*.py")):
            file, source = str(path.relative_to(root)), read(path)
            for line, name in imports(source):
                pieces = name.split(".")
                if name.startswith("."):
                    found.append(f"{file}:{line}: relative import")
                elif pieces[0] == "wardround" and pieces[1:] and pieces[1] not in allowed:
                    found.append(f"{file}:{line}: {part} imports {pieces[1]}")
                elif pieces[0] in MAY_IMPORT:
                    found.append(f"{file}:{line}: '{pieces[0]}' without wardround")
                elif pieces[0] == "flwr" and file != HOST and name != "flwr" and name not in FLOWER:
                    found.append(f"{file}:{line}: {name} is not Flower's public API")
                elif pieces[0] in FORBIDDEN:
                    found.append(f"{file}:{line}: {pieces[0]}")
            for line, called, text in source.calls:
                if called in ("eval", "exec"):
                    found.append(f"{file}:{line}: {called}")
                if called == "torch.load" and "weights_only=True" not in text:
                    found.append(f"{file}:{line}: torch.load without weights_only")
    return found


def who_imports_flower(root: Path) -> set[str]:
    """Files of the product that import flwr."""
    return {
        str(path.relative_to(root))
        for part in MAY_IMPORT
        for path in (root / part).rglob("*.py")
        for _, name in imports(read(path))
        if name.partition(".")[0] == "flwr"
    }


def test_flowers_types_stay_where_they_are_handled() -> None:
    found = who_imports_flower(ROOT)
    known = {x: {f for f in found if f == x or f.startswith(f"{x}/")} for x in HANDLES_FLOWER}
    assert found - set().union(*known.values()) == set()
    assert [place for place, files in known.items() if not files] == [], "take it off the list"


def test_nobody_breaks_the_rules() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("part", "code", "what"),
    [
        ("client", "import wardround.server.app", "client imports server"),
        ("client", "from wardround import simulations", "client imports simulations"),
        ("server", "def f():\n    from wardround.client import app", "server imports client"),
        ("common", "import wardround.client", "common imports client"),
        ("server", "from common.errors import X", "'common' without wardround"),
        ("client", "from . import app", "relative import"),
        ("server", "from flwr.supercore import log", "not Flower's public API"),
        ("common", "import pickle", "pickle"),
        ("common", "eval('1')", "eval"),
        ("common", "import torch\ntorch.load('x')", "torch.load"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, part, code, what) -> None:
    (tmp_path / part).mkdir()
    (tmp_path / part / "planted.py").write_text(code)
    (found,) = violations(tmp_path)
    assert found.startswith(f"{part}/planted.py:") and what in found


def test_files_and_functions_stay_readable_and_documented() -> None:
    problems = []
    for part in MAY_IMPORT:
        for path in sorted((ROOT / part).rglob("*.py")):
            file, source = str(path.relative_to(ROOT)), read(path)
            if source.lines > LONGEST_FILE:
                problems.append(f"{file}: over {LONGEST_FILE} lines")
            if not source.documented:
                problems.append(f"{file}: no module docstring")
            for line, name, length in source.functions:
                if length > LONGEST_FUNCTION:
                    problems.append(f"{file}:{line}: {name} over 50 lines")
            for line, name in source.undocumented:
                problems.append(f"{file}:{line}: {name} has no docstring")
    assert problems == []


WATCH = """
import os, sys, torch, scipy.stats, pydantic, cryptography.x509  # once for all that follow
for name in ('FLWR_TELEMETRY_ENABLED', 'FLWR_DISABLE_UPDATE_CHECK'):
    os.environ.pop(name, 0)
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == 'flwr':
            told = 'FLWR_TELEMETRY_ENABLED', 'FLWR_DISABLE_UPDATE_CHECK', 'RAY_USAGE_STATS_ENABLED'
            print(*map(os.environ.get, told), flush=True)
            if not all_of_it:
                os._exit(0)
sys.meta_path.insert(0, Watch())
all_of_it = False
for module in sys.argv[1:]:
    if not os.fork():
        __import__(f'wardround.{module}')
        os._exit(1)
    os.wait()
all_of_it = True
import wardround.client.app
print(*(m for m in sys.modules if m.startswith('wardround.') and m.count('.') == 1))
"""


def test_telemetry_is_off_before_flower_is_imported() -> None:
    """Whatever is imported first; and a hospital's app brings neither a server nor a simulation."""
    command = [sys.executable, "-c", WATCH, "server.app", "simulations.run.simulate"]
    command.append("common.flower.arrays")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *told, parts = done.stdout.splitlines()
    assert told == ["0 1 0"] * 4
    assert "wardround.client" in parts.split()
    assert not {"wardround.server", "wardround.simulations"} & set(parts.split())
