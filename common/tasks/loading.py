"""A user's own class from ``path/to/file.py:Class``: a task or a strategy, without packaging.

The file is the user's own, named in the user's own configuration; nothing that came over a network
is ever loaded this way. A process runs a file once per path and content: what it prints or opens
comes once, and a class is the same class wherever it is asked for.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import inspect
import sys
import threading
from pathlib import Path
from types import CodeType, ModuleType
from typing import TypeVar

from wardround.common.errors import WardroundError

T = TypeVar("T")

_loaded: dict[tuple[Path, bytes], ModuleType] = {}
_loading = threading.RLock()


def load_object(spec: str, base: Path, kind: type[T], error: type[WardroundError]) -> type[T]:
    """The class that ``spec`` names, a concrete subclass of ``kind``; relative to ``base``.

    Raises ``error`` naming file and class: file missing, import failed, class missing, of another
    kind, or abstract (with the methods it lacks).
    """
    file, _, name = spec.rpartition(":")
    path = (base / file).resolve()
    if not path.is_file():
        raise error(f"{path}: no such file (from '{spec}'; write path/to/file.py:Class)")
    module = _module(path, error)
    found = getattr(module, name, None)
    if found is None:
        raise error(f"{path}: has no class '{name}'")
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise error(f"{path}: '{name}' is not a subclass of {kind.__name__}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise error(f"{path}: '{name}' lacks the methods {missing}")
    return found


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs the bytes that were read: bytecode on disk is told from the file by its second only."""

    def __init__(self, name: str, path: Path, source: bytes) -> None:
        super().__init__(name, str(path))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._source, self.path)


def _module(path: Path, error: type[WardroundError]) -> ModuleType:
    """The file's module, run unless the same content was run from there before."""
    if path.suffix != ".py":
        raise error(f"{path}: not a Python file")
    try:
        source = path.read_bytes()
    except OSError as problem:
        raise error(f"{path}: can't be read ({problem.strerror})") from None
    digest = hashlib.sha256(source)
    with _loading:
        if (found := _loaded.get((path, digest.digest()))) is not None:
            return found
        place = hashlib.sha256(bytes(path)).hexdigest()[:12]
        name = f"_wardround_user_{path.stem}_{place}_{digest.hexdigest()[:12]}"
        loader = _Loader(name, path, source)
        module_spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        assert module_spec is not None
        module = importlib.util.module_from_spec(module_spec)
        sys.modules[name] = module  # dataclasses and typing look their module up there
        try:
            _run(module, path, error)
        except BaseException:  # half a module must not be found by the next who asks
            sys.modules.pop(name, None)
            raise
        _loaded[path, digest.digest()] = module
        return module


def _run(module: ModuleType, path: Path, error: type[WardroundError]) -> None:
    assert module.__spec__ is not None and module.__spec__.loader is not None
    try:
        module.__spec__.loader.exec_module(module)
    except Exception as problem:
        line = getattr(problem, "lineno", None) or _last_line(problem, path)
        raise error(
            f"{path}:{line or '?'}: import failed: {type(problem).__name__}: {problem}"
        ) from problem


def _last_line(problem: BaseException, path: Path) -> int | None:
    line, frame = None, problem.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == str(path):
            line = frame.tb_lineno
        frame = frame.tb_next
    return line
