"""scikit-learn's data sets, of which the built-in examples are made; not all install it.

The breast cancer data are read from its file: importing scikit-learn would take longer than a run
on them.
"""

from __future__ import annotations

import importlib.util
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from wardround.common.errors import DataError

_MEASURED = (
    *("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity"),
    *("concave points", "symmetry", "fractal dimension"),
)
_STATISTICS = ("mean {}", "{} error", "worst {}")


def example_sets() -> Any:
    """The module ``sklearn.datasets``. Raises DataError where there is none."""
    try:
        from sklearn import datasets
    except ModuleNotFoundError:
        raise _not_installed() from None
    return datasets


def breast_cancer_columns() -> dict[str, Any]:
    """``load_breast_cancer``: 30 columns by name, float64, and ``malignant``, 0 or 1, of 569 rows.
    Raises DataError without scikit-learn."""
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise _not_installed()
    path = Path(found.submodule_search_locations[0], "datasets", "data", "breast_cancer.csv")
    values = np.loadtxt(path, delimiter=",", skiprows=1)
    names = [form.format(one) for form, one in product(_STATISTICS, _MEASURED)]
    columns = dict(zip(names, values[:, :-1].T, strict=True))
    return columns | {"malignant": 1 - values[:, -1].astype(np.int64)}


def _not_installed() -> DataError:
    return DataError(
        "the built-in example data needs scikit-learn: pip install 'wardround[simulate]'",
        mend="or name data of your own: --data at a hospital, data.path in federation.toml",
    )
