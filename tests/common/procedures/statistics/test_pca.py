"""Principal components over unlike hospitals are those of scikit-learn on their rows together."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from tests.common.procedures.statistics.unlike import asked, hospitals

COLUMNS = ["age", "dose", "weight", "score"]


@pytest.mark.parametrize("scale", [False, True])
def test_equals_scikit_learn(scale):
    frames = hospitals()
    files = asked(frames, {"name": "parts", "kind": "pca", "columns": COLUMNS, "scale": scale})
    values = json.loads(files["statistics.json"])["analyses"][0]["values"]
    rows = pd.concat(frames)[COLUMNS].dropna().to_numpy()
    if scale:
        rows = (rows - rows.mean(0)) / rows.std(0, ddof=1)
    reference = PCA().fit(rows)
    np.testing.assert_allclose(values["variances"], reference.explained_variance_, rtol=1e-12)
    signs = np.sign(np.sum(np.array(values["components"]) * reference.components_, axis=1))
    np.testing.assert_allclose(
        np.array(values["components"]) * signs[:, None], reference.components_, atol=1e-9
    )
    assert files["parts.csv"].startswith("component,variance,share,together\nPC1,")


def test_a_column_that_is_constant_everywhere_is_left_out_by_name():
    frames = [frame.assign(dose=2.5) for frame in hospitals()]
    files = asked(frames, {"name": "parts", "kind": "pca", "columns": COLUMNS})
    found = json.loads(files["statistics.json"])["analyses"][0]
    assert "Constant over all hospitals, and left out: 'dose'." in found["notes"]
    assert found["values"]["columns"] == ["age", "weight", "score"]


def test_of_few_persons_nothing_is_shown():
    files = asked(hospitals(rows=(2, 1, 1)), {"name": "parts", "kind": "pca", "columns": COLUMNS})
    found = json.loads(files["statistics.json"])
    assert found["rows"] is None and found["analyses"][0]["tables"] == []
