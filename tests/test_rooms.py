"""Rooms are imported downwards only: each side's folders in an order that is stated here.

The pictures of ``docs/architecture.md`` are held against the same imports, both ways.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path

import pytest

from tests.sources import read

pytestmark = pytest.mark.xdist_group("sources")
ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
ORDER = {
    "common": (
        "address bfloat16 decided errors figures mapped memory mends offline_page rng text "
        "versions",
        "flower identifiers names",
        "durable settings transport",
        "protocol tasks",
        "calibration config drift trees",
        "command_line compression judgement",
        "procedures",
        "model run trust",
        "audit card privacy results secagg study",
        "joint",
        "linkage split vertical",
        "manifest model_folder",
        "bundle explain export",
        "predict process",
        "monitor",
    ),
    "client": (
        "deidentify gradients links state",
        "algorithms",
        "training",
        "data",
        "secagg sources",
        "privacy",
        "site",
        "joint requests",
        "app results transport",
        "check models",
        "calibration monitor",
        "process researcher serving",
    ),
    "server": (
        "members provision strategies transport",
        "observer privacy studies",
        "display gathering tracking",
        "dashboard reception secagg",
        "rounds",
        "joint",
        "app results",
        "network",
        "process",
    ),
    "simulations": (
        "clients default given",
        "population",
        "executors scenario",
        "grid",
        "run",
        "flower privacy search",
        "beginning",
        "cli python",
    ),
}
"""From the ground up: a room (or a file beside the rooms) is imported by those of later lines only,
never by one of its own line."""


@cache
def arrows(root: Path) -> tuple[tuple[str, str, str], ...]:
    """(file:line, importing, imported) for each import of one product module by another, both as
    dotted names without 'wardround'; imports inside functions count too."""
    return tuple(_arrows(root))


def _arrows(root: Path) -> Iterator[tuple[str, str, str]]:
    for side in ORDER:
        for path in sorted((root / side).rglob("*.py")):
            file = path.relative_to(root)
            parts = file.with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            for one in read(path).imports:
                if one.module.startswith("wardround."):
                    imported = one.module.removeprefix("wardround.")
                    for name in one.names or [""]:
                        yield f"{file}:{one.line}", module, f"{imported}.{name}".rstrip(".")


def rooms(root: Path, side: str) -> set[str]:
    """Folders and files of a side; its own ``__init__`` isn't one."""
    found = {path.parent.name for path in (root / side).glob("*/__init__.py")}
    return found | {path.stem for path in (root / side).glob("*.py")} - {"__init__"}


def upward(root: Path) -> list[str]:
    """Every import that doesn't go down, as 'file:line: what'."""
    floors = {
        (side, room): floor
        for side, order in ORDER.items()
        for floor, line in zip(count(), order, strict=False)
        for room in line.split()
    }
    found = []
    for place, importing, imported in arrows(root):
        side, _, rest = importing.partition(".")
        other, _, below = imported.partition(".")
        here, there = rest.partition(".")[0], below.partition(".")[0]
        if side != other or not here or here == there:
            continue
        if not {(side, here), (side, there)} <= set(floors):
            continue  # has no line yet, or is the side's own: the next test names it
        if floors[side, here] <= floors[side, there]:
            found.append(f"{place}: {here} imports {there}")
    return found


def test_rooms_are_imported_downwards_only() -> None:
    assert upward(ROOT) == []


def test_every_room_has_its_place_and_says_what_it_is_for() -> None:
    for side, order in ORDER.items():
        differ = rooms(ROOT, side) ^ set(" ".join(order).split())
        assert not differ, (
            f"ORDER and {side}/ differ in {sorted(differ)}: a room has its place in ORDER"
        )
        for path in (ROOT / side).glob("*/__init__.py"):
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            assert len(text.splitlines()) > 2, f"{path.parent}: say what it is for, and what not"


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("client/training/x.py", "from wardround.client.data.hospital import Hospital"),
        ("client/training/x.py", "def f():\n    from wardround.client.data import hospital"),
        ("server/gathering/x.py", "import wardround.server.secagg.sum"),
        ("common/text.py", "from wardround.common import rng"),
    ],
)
def test_a_planted_import_upwards_is_found(tmp_path: Path, file: str, code: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(code)
    (found,) = upward(tmp_path)
    assert found.startswith(f"{file}:")


def test_no_two_modules_import_each_other() -> None:
    """Below the rooms too: no circle among all modules, whatever room they are in."""
    below = defaultdict(set)
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for side in ORDER
        for path in (ROOT / side).rglob("*.py")
    }
    for _, importing, imported in arrows(ROOT):
        for name in (imported, imported.rpartition(".")[0]):
            if name in modules and name != importing:
                below[importing].add(name)
    done: set[str] = set()
    while free := {one for one in modules - done if below[one] <= done}:
        done |= free
    assert modules - done == set()


# --- the pictures of docs/architecture.md ---------------------------------------------------------
_FLOOR = re.compile(r'^floor\d+\["([\w, ]+)"\]|floor\d+\["([\w, ]+)"\]$')


def drawn(page: str, picture: str) -> list[str]:
    """The lines of the Mermaid graph whose first line is '%% picture'."""
    blocks = re.findall(r"```mermaid\n%% (\w+)\nflowchart \w+\n(.*?)```", page, re.S)
    (block,) = [text for name, text in blocks if name == picture]
    return [line.strip() for line in block.splitlines()]


def drawn_arrows(page: str, picture: str) -> set[tuple[str, str]]:
    """(importing, imported) of a picture of lines 'a --> b & c'."""
    found = set()
    for line in drawn(page, picture):
        below, arrow, targets = line.partition(" --> ")
        assert arrow, f"{picture}: '{line}' is no arrow"
        found |= {(below, one) for one in targets.split(" & ")}
    return found


def room_arrows(root: Path, side: str) -> set[tuple[str, str]]:
    """(importing, imported) rooms of one side, by its imports."""
    known, found = set(" ".join(ORDER[side]).split()), set()
    for _, importing, imported in arrows(root):
        (here_side, _, here), (there_side, _, there) = (
            name.partition(".") for name in (importing, imported)
        )
        here, there = here.partition(".")[0], there.partition(".")[0]
        if here_side == there_side == side and here != there and {here, there} <= known:
            found.add((here, there))
    return found


def picture_problems(page: str, root: Path) -> list[str]:
    """What of the pictures isn't so, or is lacking; each as the line that would be right."""
    problems = []
    imports = {
        side: {b.partition(".")[0] for _, a, b in arrows(root) if a.partition(".")[0] == side}
        for side in ORDER
    }
    real = {"sides": {(a, b) for a, others in imports.items() for b in others - {a}}}
    real |= {side: room_arrows(root, side) for side in ("client", "server", "simulations")}
    for picture, there in real.items():
        shown = drawn_arrows(page, picture)
        for room in sorted({a for a, _ in shown ^ there}):
            line = f"{room} --> {' & '.join(sorted(b for a, b in there if a == room))}"
            lacks = sorted(b for a, b in there - shown if a == room)
            false = sorted(b for a, b in shown - there if a == room)
            says = f"{picture}: {room} lacks {lacks}, has false {false}; the line is '{line}'"
            problems.append(says)
    floors = [
        " ".join(sorted((found[1] or found[2]).split(", ")))
        for line in drawn(page, "common")
        for found in _FLOOR.finditer(line)
    ]
    wanted = [" ".join(sorted(line.split())) for line in reversed(ORDER["common"])]
    if floors != wanted:
        problems.append(f"common: the floors are {wanted}, the picture has {floors}")
    return problems


def test_the_pictures_show_the_imports_that_there_are() -> None:
    assert picture_problems(PAGE.read_text("utf-8"), ROOT) == []


def test_a_false_arrow_a_missing_one_and_a_false_floor_are_named() -> None:
    page = PAGE.read_text("utf-8")
    problems = picture_problems(
        page.replace("algorithms --> state", "algorithms --> data")
        .replace("simulations --> client & common", "simulations --> client")
        .replace('"calibration, config', '"calibration, text, config'),
        ROOT,
    )
    today = picture_problems(page, ROOT)
    problems = [problem for problem in problems if problem not in today]
    assert [problem.split(";")[0] for problem in problems][:2] == [
        "sides: simulations lacks ['common'], has false []",
        "client: algorithms lacks ['state'], has false ['data']",
    ]
    assert len(problems) == 3 and problems[2].startswith("common: the floors are")


def test_every_room_has_a_paragraph_and_every_file_that_is_named_exists() -> None:
    page = PAGE.read_text("utf-8")
    for side, order in ORDER.items():
        for room in " ".join(order).split():
            assert f"`{side}/{room}`" in page, f"docs/architecture.md: a word on {side}/{room}"
    for name in re.findall(r"`((?:client|server|common|simulations|tests)/[\w/.]+)`", page):
        assert any((ROOT / f"{name}{ending}").exists() for ending in ("", ".py")), name
