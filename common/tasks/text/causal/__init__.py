"""``kind = 'causal'``: a language model that learns to answer instructions.

``reading`` reads files, ``template`` makes a conversation a text, ``rows`` makes it token ids,
``base`` reads the model, ``network`` computes, ``figures`` sums, and ``task`` is all of it. A row's
answer, or every answer that it may choose, is a *branch* that sees the prompt and itself: so the
prompt goes through the model once, however many answers are scored.

The task is imported when it is asked for: what reads data and knows options needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wardround.common.tasks.text.causal.task import CausalTask as CausalTask

__all__ = ["CausalTask"]


def __getattr__(name: str) -> object:
    """``CausalTask``."""
    if name != "CausalTask":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wardround.common.tasks.text.causal.task import CausalTask

    return CausalTask


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
