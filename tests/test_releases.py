"""What a release promises: one version everywhere, and lists by digest of the pinned packages."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from wardround.common.protocol.names import PROTOCOL
from wardround.common.versions import own_version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LISTS = {"hospital": ("sql", "imaging", "text", "serve"), "server": ("server",)}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")


def normal(name: str) -> str:
    """PEP 503's form of a name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(text: str) -> dict[str, tuple[str, list[str]]]:
    """Version and digests of each package of a list."""
    found = {}
    for part in re.split(r"\n(?=[A-Za-z0-9])", text):
        if pin := _PIN.match(part):
            digests = re.findall(r"--hash=sha256:([0-9a-f]{64})\b", part)
            found[normal(pin[1])] = (pin[2], digests)
    return found


@pytest.mark.parametrize("name", LISTS)
def test_a_locked_list_has_every_dependency_in_its_pinned_version_by_digests(name: str) -> None:
    listed = entries((ROOT / f"deploy/requirements-{name}.txt").read_text())
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pinned = {normal(package): version for package, version in pins.items()}
    assert [package for package, (_, digests) in listed.items() if not digests] == []
    other = {
        package: (version, pinned[package])
        for package, (version, _) in listed.items()
        if package in pinned and pinned[package] != version
    }
    assert not other, f"make lock: {other}"
    extras = [line for extra in LISTS[name] for line in PROJECT["optional-dependencies"][extra]]
    asked = {
        normal(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in PROJECT["dependencies"] + extras
    }
    assert asked <= set(listed), f"make lock: {sorted(asked - set(listed))}"


def test_the_lists_are_those_that_the_release_makes() -> None:
    made = (ROOT / ".ci/release").read_text()
    for name, extras in LISTS.items():
        assert f'lock "a {name}" {" ".join(extras)}\n' in made


def test_the_version_is_the_newest_of_the_changelog_and_the_protocol_that_of_the_table() -> None:
    versions = re.findall(
        r"^## (\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    assert versions and versions[0] == PROJECT["version"] == own_version()
    page = (ROOT / "docs/releases.md").read_text()
    told = re.search(r"wardround --version +# wardround (\S+), protocol (\d+)", page)
    assert told is not None and told.groups() == (PROJECT["version"], str(PROTOCOL))
    rows = [int(number) for number in re.findall(r"^\| (\d+) \|", page, re.M)]
    assert rows == list(range(PROTOCOL, 0, -1))


def test_the_command_says_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wardround", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"wardround {own_version()}, protocol {PROTOCOL}\n"


def test_a_bill_names_what_wardround_itself_asks_for() -> None:
    place = importlib.util.spec_from_file_location("bill", ROOT / ".ci/bill.py")
    assert place is not None and place.loader is not None
    bill = importlib.util.module_from_spec(place)
    place.loader.exec_module(bill)
    parts = [
        {"name": "numpy", "bom-ref": "l1", "description": "line 1"},
        {"name": "Py.Arrow", "bom-ref": "l2"},
        {"name": "six", "bom-ref": "l3"},
    ]
    whole = {"metadata": {"component": {"bom-ref": "root"}}, "components": parts}
    made = bill.complete(whole, {"numpy", "py-arrow"})
    assert made["dependencies"] == [{"ref": "root", "dependsOn": ["l1", "l2"]}]
    assert all("description" not in part for part in made["components"])
