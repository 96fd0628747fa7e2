"""scikit-learn's data sets, of which the built-in examples are made; not all install it."""

from __future__ import annotations

from typing import Any

from wardround.common.errors import DataError


def example_sets() -> Any:
    """The module ``sklearn.datasets``. Raises DataError where there is none."""
    try:
        from sklearn import datasets
    except ModuleNotFoundError:
        raise DataError(
            "the built-in example data needs scikit-learn: pip install 'wardround[simulate]'",
            mend="or name data of your own: --data at a hospital, data.path in federation.toml",
        ) from None
    return datasets
