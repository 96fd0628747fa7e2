"""The deploy files say what the commands know, and give up every right they can."""

from __future__ import annotations

import http.client
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from wardround.common import errors
from wardround.common.process.main import app
from wardround.server.dashboard.app import serve_dashboard
from wardround.server.display.board import Board

DEPLOY = Path(__file__).parent.parent / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))


def options(words: list[str]) -> tuple[set[str], int]:
    """The options a command takes, and how many of the words name the command."""
    command, depth = get_command(app), 0
    while hasattr(command, "commands"):
        name = words[depth]
        if name not in command.commands:  # `wardround client KIT` is `wardround client run KIT`
            command = command.commands["run"]
            break
        command, depth = command.get_command(None, name), depth + 1
    return {option for one in command.params for option in one.opts}, depth


def check_command(words: list[str]) -> None:
    known, depth = options(words)
    used = {word for word in words[depth:] if word.startswith("--")}
    assert used and used <= known, f"{words}: knows {sorted(known)}"


def exit_statuses(path: Path, key: str) -> set[int]:
    """A unit's list of exit codes."""
    found = re.search(rf"^{key}=(.+)$", path.read_text(), re.M)
    assert found is not None, f"{path.name} has no {key}"
    return set(map(int, found[1].split()))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_start_what_there_is_and_retry_no_mistake_of_a_persons(path: Path) -> None:
    text = path.read_text()
    program, *words = shlex.split(re.search(r"^ExecStart=(.+)$", text, re.M)[1])
    assert program.endswith("/wardround")
    check_command(words)
    kinds = [kind for kind in vars(errors).values() if hasattr(kind, "exit_code")]
    lasting = {kind.exit_code for kind in kinds if kind.lasting and kind.exit_code != 1}
    assert exit_statuses(path, "RestartPreventExitStatus") == lasting
    assert exit_statuses(path, "SuccessExitStatus") == {errors.Interrupted.exit_code}
    for key in ("NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes", "UMask=0077"):
        assert f"\n{key}\n" in text


def test_the_compose_file_starts_what_there_is_without_rights() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert set(services) == {"server", "client", "serve"}
    for service in services.values():
        check_command(service["command"])
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["user"] == "10001:10001"
    assert "ports" not in services["client"], "a hospital dials out only"
    assert services["client"]["volumes"][-1].endswith(":ro")
    assert all(port.startswith("127.0.0.1:") for port in services["serve"]["ports"])
    assert all(one.endswith(":ro") for one in services["serve"]["volumes"])


def test_the_composed_dashboard_is_reached_from_its_machine_only() -> None:
    """The page listens inside the container; its port is published on the host's loopback."""
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["server"]
    words = service["command"]
    host, port = words[words.index("--dashboard") + 1].split(":")
    assert "--dashboard-open" in words and f"127.0.0.1:{port}:{port}" in service["ports"]
    page = serve_dashboard(Board(), f"{host}:0", open_to_all=True)
    try:
        inside = int(page.url.rstrip("/").rpartition(":")[2])
        for name in ("localhost", "127.0.0.1"):
            connection = http.client.HTTPConnection("127.0.0.1", inside, timeout=20)
            connection.request("GET", "/", headers={"Host": f"{name}:{port}"})
            assert connection.getresponse().status == 200
            connection.close()
    finally:
        page.stop()


def test_the_image_runs_as_the_composed_user_and_fetches_no_package() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    assert "\nUSER 10001:10001\n" in text and "--no-index" in text


def test_the_wheels_script_is_a_script() -> None:
    subprocess.run(["bash", "-n", DEPLOY / "wheels.sh"], check=True)
