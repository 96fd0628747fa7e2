"""The built-in text task: named entities in sentences, or a class of a whole text.

The task is imported when it is asked for: what reads data and knows options needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wardround.common.tasks.text.task import TextTask as TextTask

__all__ = ["TextTask"]


def __getattr__(name: str) -> object:
    """``TextTask``."""
    if name != "TextTask":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wardround.common.tasks.text.task import TextTask

    return TextTask


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
