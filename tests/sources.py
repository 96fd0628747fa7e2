"""What stands in a source file, read once for all tests that hold sources to something.

A file is parsed and walked once: trees of the whole product would fill memory, what is kept are
the few facts that are asked for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_BY_NAME = {"setattr", "getattr", "delattr", "hasattr"}
_WATCHED = {"eval", "exec", "load"}


@dataclass(frozen=True)
class Import:
    """``import module`` (``names`` is None), or ``from module import names``; a relative one has
    its dots before the module. Inside functions they count too."""

    line: int
    module: str
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class Source:
    """
    lines : how many
    documented : whether the module has a docstring, or holds nothing at all
    imports : in the order in which the tree is walked
    functions : (line, name, length in lines but the first) of each
    undocumented : (line, name) of what the module offers without a docstring
    calls : (line, what is called, the call's text) of eval, exec and anything named load
    uses : (line, name) of each private name that the file doesn't give itself
    """

    lines: int
    documented: bool
    imports: tuple[Import, ...]
    functions: tuple[tuple[int, str, int], ...]
    undocumented: tuple[tuple[int, str], ...]
    calls: tuple[tuple[int, str, str], ...]
    uses: tuple[tuple[int, str], ...]


@cache
def read(path: Path) -> Source:
    """Of a file that doesn't change while tests run."""
    return parse(path.read_text())


def parse(text: str) -> Source:
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    return Source(
        lines=len(text.splitlines()),
        documented=not text.strip() or bool(ast.get_docstring(tree)),
        imports=tuple(_imports(nodes)),
        functions=tuple(
            (node.lineno, node.name, (node.end_lineno or node.lineno) - node.lineno)
            for node in nodes
            if isinstance(node, ast.FunctionDef)
        ),
        undocumented=tuple((one.lineno, one.name) for one in public if not ast.get_docstring(one)),
        calls=tuple(
            (node.lineno, ast.unparse(node.func), ast.unparse(node))
            for node in nodes
            if isinstance(node, ast.Call) and _last(node.func) in _WATCHED
        ),
        uses=tuple(_uses(nodes)),
    )


def is_private(name: str) -> bool:
    """``_x``, but neither ``_`` nor ``__x__``."""
    return name.startswith("_") and name.strip("_") != "" and not name.endswith("__")


def _imports(nodes: Iterable[ast.AST]) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(node.lineno, name.name, None)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(name.name for name in node.names)
            yield Import(node.lineno, "." * node.level + (node.module or ""), names)


def _own(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that a file gives itself: what it defines and assigns, and its objects' attributes."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if _on_itself(node):
                found.add(node.attr)
    return found


def _uses(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    given = _own(nodes)
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            parts = [*(node.module or "").split("."), *(one.name for one in node.names)]
            if node.module != "__future__":
                yield from ((node.lineno, name) for name in parts if is_private(name))
            continue
        if isinstance(node, ast.Import):
            names = [part for one in node.names for part in one.name.split(".")]
        elif isinstance(node, ast.Attribute) and not _on_itself(node):
            names = [node.attr]
        elif isinstance(node, ast.Call) and _last(node.func) in _BY_NAME:
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            names = [part for text in texts if isinstance(text, str) for part in text.split(".")]
        else:
            continue
        yield from ((node.lineno, name) for name in names if is_private(name) and name not in given)


def _last(called: ast.expr) -> str:
    """The name itself of what is called; '' for the result of a call, and the like."""
    if isinstance(called, ast.Attribute):
        return called.attr
    return called.id if isinstance(called, ast.Name) else ""


def _on_itself(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
