"""k-means and mixtures over unlike hospitals are scikit-learn's on their rows together."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from tests.common.procedures.statistics.unlike import asked, hospitals

COLUMNS = ["age", "dose", "weight"]


def clustered():
    frames = hospitals(3)
    for frame in frames:
        frame["age"] += 60 * (frame["stage"] == "B")
    return frames, pd.concat(frames)[COLUMNS].dropna().to_numpy()


def values(files):
    return json.loads(files["statistics.json"])["analyses"][0]["values"]


def test_kmeans_from_the_same_starts_is_scikit_learns():
    frames, rows = clustered()
    options = {"name": "groups", "kind": "kmeans", "columns": COLUMNS, "clusters": 3, "starts": 4}
    found = values(asked(frames, options))
    mean, std = rows.mean(0), rows.std(0)
    rng = np.random.default_rng(0)
    scaled, best = (rows - mean) / std, None
    for _ in range(4):
        start = rng.standard_normal((3, 3))
        one = KMeans(3, init=start, n_init=1, tol=0, algorithm="lloyd", max_iter=100).fit(scaled)
        best = one if best is None or one.inertia_ < best.inertia_ else best
    order = np.argsort(-np.bincount(best.labels_))
    np.testing.assert_allclose(
        found["centres"], best.cluster_centers_[order] * std + mean, rtol=1e-9
    )
    assert found["inertia"] == pytest.approx(best.inertia_, rel=1e-9)


def test_a_cluster_of_few_persons_is_not_shown():
    frames = hospitals(3)
    frames[0].loc[:2, "dose"] = 100.0
    options = {"name": "groups", "kind": "kmeans", "columns": ["age", "dose"], "clusters": 3}
    files = asked(frames, options)
    assert len(values(files)["centres"]) == 2
    lines = files["groups.csv"].splitlines()
    assert lines[3] == "3,few,," and lines[1].split(",")[1] == ""  # else 1 less it is the few's


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_a_mixture_from_the_same_clusters_is_scikit_learns(covariance):
    frames, rows = clustered()
    mean, std = rows.mean(0), rows.std(0)
    options = {"name": "m", "kind": "mixture", "columns": COLUMNS, "covariance": covariance}
    found = values(asked(frames, options))
    scaled = (rows - mean) / std
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal((2, 3)) for _ in range(5)]
    fits = [
        KMeans(2, init=one, n_init=1, tol=0, algorithm="lloyd", max_iter=28).fit(scaled)
        for one in starts
    ]
    labels = min(fits, key=lambda one: one.inertia_).labels_
    kind = {"full": "full", "diagonal": "diag"}[covariance]
    reference = _from_labels(scaled, labels, kind)
    order = np.argsort(-reference.weights_)
    theirs = reference.means_[order] * std + mean
    np.testing.assert_allclose([one["mean"] for one in found["components"]], theirs, rtol=1e-9)
    assert found["log_likelihood_of_a_row"] == pytest.approx(
        reference.lower_bound_ - np.log(std).sum(), abs=1e-9
    )


def _from_labels(scaled, labels, kind):
    parts = [scaled[labels == place] for place in (0, 1)]
    spread = [np.cov(one.T, bias=True) + 1e-6 * np.eye(3) for one in parts]
    precisions = np.array([np.linalg.inv(one) for one in spread])
    if kind == "diag":
        precisions = np.array([1 / (one.var(0) + 1e-6) for one in parts])
    return GaussianMixture(
        2,
        covariance_type=kind,
        weights_init=np.bincount(labels) / len(labels),
        means_init=np.array([one.mean(0) for one in parts]),
        precisions_init=precisions,
        tol=1e-7,
        max_iter=200,
    ).fit(scaled)


@pytest.mark.parametrize("kind", ["kmeans", "mixture"])
def test_of_zeros_and_ones_a_centre_would_be_a_count(kind):
    frames = hospitals(3)
    for frame in frames:
        frame["yes"] = (np.arange(len(frame)) % 3 == 0).astype(float)
    files = asked(frames, {"name": "groups", "kind": kind, "columns": ["age", "yes"]})
    found = json.loads(files["statistics.json"])["analyses"][0]
    assert "all values of yes" in found["notes"][-1] and not found["values"]
