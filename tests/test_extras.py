"""What each side needs installed: a hospital neither dashboard nor plots."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.sources import read
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import DataError

pytestmark = pytest.mark.xdist_group("sources")
ROOT = Path(__file__).parent.parent
SIDES = ("client", "common", "server", "simulations")
MODULES = {"scikit-learn": "sklearn", "grpcio-health-checking": "grpc_health"}
MODULES["argon2-cffi"] = "argon2"
"""What a package is imported as, where that isn't its name with underscores."""
DRIVERS = {f"wardround.client.sources.sql.{name}" for name in ("duck", "others", "postgresql")}
SERVING = {
    f"wardround.client.serving.{name}" for name in ("app", "counting", "desk", "guard", "serving")
}
SITES = {
    "client/secagg/ckks.py": {"tenseal"},
    "client/sources/sql/duck.py": {"duckdb"},
    "client/sources/sql/others.py": {"sqlalchemy"},
    "client/sources/sql/postgresql.py": {"psycopg"},
    "client/sources/sql/postgresql_words.py": {"psycopg"},
    "client/sources/pacs/web.py": {"requests"},
    "client/serving/app.py": {"fastapi", "starlette"},
    "client/serving/counting.py": {"prometheus_client"},
    "client/serving/desk.py": {"fastapi", "starlette"},
    "client/serving/guard.py": {"starlette"},
    "client/serving/patience.py": {"uvicorn"},
    "client/serving/serving.py": {"starlette", "uvicorn"},
    "common/export/graph.py": {"onnx"},
    "common/export/int8.py": {"onnx", "onnxruntime"},
    "common/export/layouts.py": {"onnx"},
    "common/export/traced.py": {"onnx", "onnxscript"},
    "common/export/session.py": {"onnxruntime"},
    "common/run/report/page.py": {"jinja2", "markupsafe", "plotly"},
    "common/tasks/data/example.py": {"sklearn"},
    "common/tasks/text/causal/bounded.py": {"jinja2"},
    "common/tasks/text/causal/render.py": {"jinja2"},
    "server/dashboard/app.py": {"fastapi", "starlette", "uvicorn"},
    "server/dashboard/guard.py": {"starlette"},
    "server/dashboard/sign_in/door.py": {"starlette"},
    "server/dashboard/sign_in/oidc.py": {"authlib", "joserfc"},
    "server/dashboard/sign_in/pages.py": {"fastapi", "starlette"},
    "server/dashboard/sign_in/passwords.py": {"argon2"},
    "server/dashboard/metrics.py": {"prometheus_client"},
    **{
        f"server/studies/{name}.py": {"sqlalchemy"}
        for name in ("changes", "connecting", "course", "leases", "store", "tables")
    },
    "server/studies/schema.py": {"alembic", "sqlalchemy"},
    "server/studies/migrations/versions/v0001_studies.py": {"alembic", "sqlalchemy"},
    "server/transport/service.py": {"grpc_health"},
    "simulations/privacy/attacks/membership_inference.py": {"sklearn"},
    "simulations/privacy/attacks/split_features.py": {"sklearn"},
    "simulations/privacy/attacks/split_labels.py": {"sklearn"},
    "simulations/search/study.py": {"optuna"},
}
"""All imports, at whatever depth, of what the plain install lacks (formats of data apart)."""
WALK = """
import builtins, importlib, json, os, sys
import flwr.app, flwr.clientapp, flwr.serverapp, opacus, scipy.stats  # once for all cases
modules, cases = json.load(sys.stdin)
for number, (sides, blocked) in enumerate(cases):
    child = os.fork()
    if not child:
        break
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
else:
    sys.modules["plotly"] = None
    from wardround.simulations import simulate
real = builtins.__import__
def checked(name, globals=None, *rest):
    by = str((globals or {}).get("__name__"))
    if name.partition(".")[0] in blocked and by.startswith("wardround"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real(name, globals, *rest)
builtins.__import__ = checked
for module in modules:
    if module.split(".")[1] in sides:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            print(number, module, error.name)
sys.stdout.flush()
"""
"""Each case in a fork: what a side imports, with packages that aren't there. In the end `simulate`
without one of them, as a user's program does."""


def packages(extra: str | None) -> set[str]:
    """What an extra (None: the plain install) brings, as it is imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    names = [re.split(r"[<>=\[]", line)[0] for line in lines]
    return {MODULES.get(name, name.replace("-", "_")) for name in names if name != "wardround"}


BROUGHT = (
    packages("server")
    | packages("simulate")
    | packages("sql")
    | packages("export")
    | packages("ckks")
    | {"starlette", "optuna"}
)


def modules() -> list[str]:
    found = []
    for side in SIDES:
        for path in (ROOT / side).rglob("*.py"):
            name = ".".join(["wardround", *path.relative_to(ROOT).with_suffix("").parts])
            if "ray" not in path.stem.split("_"):
                found.append(name.removesuffix(".__init__"))
    return sorted(found)


def test_the_plain_install_is_what_a_hospital_needs() -> None:
    assert packages(None).isdisjoint(BROUGHT)
    assert packages("server") >= {"fastapi", "uvicorn", "prometheus_client", "plotly", "jinja2"}
    assert packages("simulate") == {"sklearn", "plotly", "jinja2", "markupsafe"}


def test_what_extras_bring_is_imported_where_it_is_known() -> None:
    found: dict[str, set[str]] = {}
    for side in SIDES:
        for path in (ROOT / side).rglob("*.py"):
            for name in {one.module.partition(".")[0] for one in read(path).imports} & BROUGHT:
                found.setdefault(str(path.relative_to(ROOT)), set()).add(name)
    assert found == SITES


INSTALLED = {
    # reports are written by others, a driver is imported where a database is opened, what runs
    # a chat template where one is rendered
    "wardround": (
        ("client", "common"),
        BROUGHT,
        {
            "wardround.common.run.report.from_run",
            "wardround.common.run.report.page",
            "wardround.common.tasks.text.causal.bounded",
            *DRIVERS,
            *SERVING,
        },
    ),
    "wardround[server]": (
        ("server", "common"),
        BROUGHT - packages("server") - {"starlette"},
        set[str](),
    ),
    "wardround[simulate]": (
        ("simulations",),
        BROUGHT - packages("simulate"),
        {"wardround.simulations.search.study"},
    ),
}
"""Sides, packages that aren't there, modules that can't be imported then."""


@pytest.fixture(scope="module")
def walked() -> subprocess.CompletedProcess[str]:
    cases = [(sides, sorted(blocked)) for sides, blocked, _ in INSTALLED.values()]
    given = json.dumps([modules(), cases])
    command = [sys.executable, "-c", WALK]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)


def test_a_side_is_imported_with_what_is_installed_for_it(
    walked: subprocess.CompletedProcess[str],
) -> None:
    said = [line.split() for line in walked.stdout.splitlines()]
    for number, (name, (_, _, missing)) in enumerate(INSTALLED.items()):
        lacking = {line[1] for line in said if line[0] == str(number)}
        left = {one for one in lacking if not any(one.startswith(m) for m in missing)}
        assert left == set(), name
        assert missing <= lacking, f"{name}: the walk sees what is missing"
        assert len(lacking) < 20


def test_the_example_data_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=r"pip install 'wardround\[simulate\]'; or name data"):
        make_task(parse_config("")).load(None)


def test_simulate_from_python_says_what_it_needs(
    walked: subprocess.CompletedProcess[str],
) -> None:
    assert walked.returncode == 1
    last = walked.stderr.strip().splitlines()[-1]
    assert last.endswith("simulations need plotly: pip install 'wardround[simulate]'"), last
