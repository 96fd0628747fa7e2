"""A table's model as a graph: for any row that the model predicts, the same; for no other any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from tests.common.export import made
from tests.common.tasks.made import table
from wardround.common.export.exporter import exporter_of
from wardround.common.export.parity import parity_of
from wardround.common.export.rows import columns_of
from wardround.common.export.session import GraphSession
from wardround.common.export.tabular import tabular_graph
from wardround.common.tasks.data.numbers import MAX_ABS_NUMBER

DECOMPOSED = "A\u030angström"
KINDS = ("binary", "multiclass", "regression", "survival")
DECLARED = 'categories = { ward = ["2", "intensive", "surgery", "Ångström"] }'
MLP = '{ kind = "mlp", hidden = [7, 5], norm = "%s" }'
NUMBERS = st.one_of(
    st.none(),
    st.floats(-MAX_ABS_NUMBER, MAX_ABS_NUMBER),
    st.floats(-100, 200),
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "age": NUMBERS,
            "tiny": st.one_of(st.none(), st.floats(-1e-8, 1e-8)),
            "constant": st.one_of(st.none(), st.sampled_from([7.25, 8.0, 0.0])),
            "smoker": st.sampled_from([None, "yes", "No", "1", "0", " TRUE "]),
            "ward": st.sampled_from([None, "?", *made.WARDS, "2.0", "ICU", " ITS", DECOMPOSED]),
        }
    ),
    min_size=1,
    max_size=12,
)  # fmt: skip
OPTIONS = st.fixed_dictionaries(
    {
        "missing": st.sampled_from(["median", "drop", "refuse"]),
        "normalise": st.sampled_from(["federated", "none"]),
        "encoding": st.sampled_from(["one_hot", "dummy"]),
        "encoded": st.booleans(),
        "declared": st.sampled_from(["", "ignore", "refuse"]),
        "model": st.sampled_from(["", "none", "layer", "batch"]),
    }
)


def toml(kind: str, drawn: dict[str, Any]) -> str:
    keys = {key: f'"{drawn[key]}"' for key in ("missing", "normalise", "encoding")}
    if drawn["encoded"] and drawn["normalise"] != "none":
        keys["normalise_encoded"] = "true"
    if drawn["declared"]:
        keys["unknown"] = f'"{drawn["declared"]}"'
    if drawn["model"]:
        keys["model"] = MLP % drawn["model"]
    return made.settings(kind, keys, [DECLARED] if drawn["declared"] else [])


def predictable(row: dict[str, Any], drawn: dict[str, Any]) -> bool:
    """Whether a row has all that it must have."""
    if drawn["missing"] != "median":
        return None not in row.values() and row["ward"] != "?"
    return True


@pytest.mark.parametrize("kind", KINDS)
@given_settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drawn=OPTIONS, cells=ROWS, seed=st.integers(0, 99))
def test_a_graph_predicts_what_the_model_predicts(
    kind: str, drawn: dict[str, Any], cells: list[dict[str, Any]], seed: int, tmp_path_factory: Any
) -> None:
    folder = made.model_folder(tmp_path_factory.mktemp("made") / "model", toml(kind, drawn), seed)
    source = made.at_home(folder)
    exporter, session = exporter_of(source), GraphSession(tabular_graph(source))
    cases = exporter.cases(source)
    parity = parity_of(cases, session.run, exporter.tolerance, "x")
    assert parity.rows > 250 and parity.refused > 10

    given_rows = table(**{name: [row[name] for row in cells] for name in cells[0]})
    given_rows = made.as_read(given_rows, source.task.options)
    found = session.run(columns_of(given_rows, source.task.options, source.schema.inputs))
    kept = np.flatnonzero([predictable(row, drawn) for row in cells])
    for values in found.values():
        assert np.isnan(np.delete(values, kept)).all()
    if not len(kept):
        return
    wanted = made.predicted(source, given_rows.select(kept))
    for name, values in wanted.items():
        scale = max(1.0, float(np.abs(values[np.isfinite(values)]).max(initial=1.0)))
        np.testing.assert_allclose(found[name][kept] / scale, values / scale, atol=2e-5)
