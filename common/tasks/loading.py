"""A user's own class from ``path/to/file.py:Class``: a task or a strategy, without packaging.

The file is the user's own, named in the user's own configuration; nothing that came over a network
is ever loaded this way.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import TypeVar

from wardround.common.errors import WardroundError

T = TypeVar("T")


def load_object(spec: str, base: Path, kind: type[T], error: type[WardroundError]) -> type[T]:
    """The class that ``spec`` names, a concrete subclass of ``kind``; relative to ``base``.

    Raises ``error`` naming file and class: file missing, import failed, class missing, of another
    kind, or abstract (with the methods it lacks).
    """
    file, _, name = spec.rpartition(":")
    path = (base / file).resolve()
    if not path.is_file():
        raise error(f"{path}: no such file (from '{spec}'; write path/to/file.py:Class)")
    module_name = f"_wardround_user_{path.stem}_{abs(hash(str(path)))}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    if module_spec is None or module_spec.loader is None:
        raise error(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module  # dataclasses and typing look their module up there
    try:
        module_spec.loader.exec_module(module)
    except Exception as problem:
        sys.modules.pop(module_name, None)
        line = getattr(problem, "lineno", None) or _last_line(problem, path)
        raise error(
            f"{path}:{line or '?'}: import failed: {type(problem).__name__}: {problem}"
        ) from problem
    found = getattr(module, name, None)
    if found is None:
        raise error(f"{path}: has no class '{name}'")
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise error(f"{path}: '{name}' is not a subclass of {kind.__name__}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise error(f"{path}: '{name}' lacks the methods {missing}")
    return found


def _last_line(problem: BaseException, path: Path) -> int | None:
    line, frame = None, problem.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == str(path):
            line = frame.tb_lineno
        frame = frame.tb_next
    return line
