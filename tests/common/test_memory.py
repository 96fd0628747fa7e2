"""One arena, unless the user has said otherwise or there is no glibc."""

from __future__ import annotations

import ctypes

import pytest

from wardround.common.memory import one_arena


class Library:
    """A C library that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        self.asked.append((parameter, value))
        return 1


def test_it_asks_for_one_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    one_arena()
    assert library.asked == [(-8, 1)]  # M_ARENA_MAX of glibc's malloc.h


def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    one_arena()
    assert not library.asked


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch, error) -> None:
    def missing(name: None) -> None:
        raise error("not here")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    one_arena()
