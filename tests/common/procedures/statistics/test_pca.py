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


def test_of_zeros_and_ones_correlations_are_rounded_and_few_are_refused():
    """In full two columns' correlation is the four counts of their table."""
    frames = hospitals()
    for frame in frames:
        frame["yes"] = (np.arange(len(frame)) % 3 == 0).astype(float)
        frame["rare"] = 0.0
    options = {"name": "parts", "kind": "pca", "columns": ["age", "event", "yes"]}
    found = json.loads(asked(frames, options)["statistics.json"])["analyses"][0]
    vectors, values = (np.array(found["values"][key]) for key in ("components", "variances"))
    step = 0.05  # 5 persons of 584 move r by 4 * 5 / 584 = .034 at most
    matrix = vectors.T @ np.diag(values) @ vectors
    np.testing.assert_allclose(matrix / step, np.round(matrix / step), atol=1e-9)
    assert "rounded" in found["notes"][-1]
    frames[0].loc[[3, 9, 12], "rare"] = 1.0
    options["columns"] = ["age", "rare"]
    found = json.loads(asked(frames, options)["statistics.json"])["analyses"][0]
    assert found["notes"][-1] == "Few persons have a value of rare." and not found["values"]


def test_no_component_is_one_persons():
    frames = hospitals()
    frames[0].loc[5, "dose"] = 100.0
    files = asked(frames, {"name": "parts", "kind": "pca", "columns": COLUMNS})
    found = json.loads(files["statistics.json"])["analyses"][0]
    assert "One person may be most" in found["notes"][-1] and not found["values"]
