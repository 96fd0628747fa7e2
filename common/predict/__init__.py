"""A finished model predicts: rows in, named columns out, one row for each row.

``load.py`` opens a model, ``predictor.py`` has it, ``language.py`` a language model; ``given.py``
takes rows in whatever form a program has them,
``predictions.py`` is what comes back, ``writing.py`` writes it. Rows are prepared as in training,
so the scores are those that the run measured. It sends nothing, keeps nothing, and learns nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wardround.common.predict.load import load_model as load_model
    from wardround.common.predict.predictions import Predictions as Predictions
    from wardround.common.predict.predictor import Predictor as Predictor

__all__ = ["Predictions", "Predictor", "load_model"]


def __getattr__(name: str) -> object:
    """The names of ``__all__``, each imported when it is asked for: a graph needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "Predictions":
        from wardround.common.predict.predictions import Predictions

        return Predictions
    from wardround.common.predict import load

    return getattr(load, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
