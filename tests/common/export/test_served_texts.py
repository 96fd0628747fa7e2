"""A served text model (here, as its graph takes seconds to make): an answer is what the export
predicts, and no word of a text comes back."""

from __future__ import annotations

import numpy as np

from tests.client.serving.made import asked
from wardround.common.export.folder import ExportFolder
from wardround.common.export.runtime import rows_of_export

TEXTS = ["kalt und warm", "", "der kopf tut weh und das herz"]


def test_tags_are_those_of_the_export(tagger_graph: ExportFolder) -> None:
    rows, session = rows_of_export(tagger_graph), tagger_graph.session()
    raw = rows.rows_of_values([text for text in TEXTS if text])
    own = rows.predicted(raw, rows.predictions(session, raw)).to_pylist()
    assert own, "or this shows nothing"
    with asked(tagger_graph.path, unsigned=True, signers=()) as (client, served):
        (name,) = [one.name for one in served.model.schema.inputs]
        answer = client.post("/predict", json={"rows": [{name: text or None} for text in TEXTS]})
        assert answer.status_code == 200 and not any(text in answer.text for text in TEXTS if text)
        found = [row["tags"] for row in answer.json()["predictions"]]
        assert client.post("/predict", json={"rows": [{name: None}]}).status_code == 422
        assert client.post("/predict", json={"rows": [{name: 3}]}).status_code == 422
    place = {1: 0, 2: 2}
    expected: list[list[dict[str, object]]] = [[], [], []]
    for one in own:
        expected[place[one["row"]]].append({k: one[k] for k in ("start", "end", "entity")})
    assert found == expected and found[1] == []
    assert np.all([span["end"] <= len(TEXTS[0]) for span in found[0]])
