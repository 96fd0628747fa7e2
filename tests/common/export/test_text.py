"""A text model as a graph: what the model itself gives, for rows of any number and length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.common.export.made_neural import text_folder
from wardround.common.export.exporting import export_model
from wardround.common.export.folder import ExportFolder
from wardround.common.export.runtime import rows_of_export
from wardround.common.export.source import Source
from wardround.common.export.text_exporter import case_tokens
from wardround.common.export.text_rows import by_length, fed
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.tasks.text.encoder import make_tokenizer

LONGEST = 40
TOKENS = st.lists(
    st.lists(st.integers(1, 60), min_size=1, max_size=LONGEST), min_size=1, max_size=5
)
TEXTS = [
    "acute renal failure with fever , cough .",
    "cough",
    "the fever of " * 30,
    "[SEP] unheard\u0301 of \u4e2d\u6587 [PAD] \u00a0 ?",
]
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
from wardround.common.predict.exported import load_export
print(load_export(sys.argv[1]).predict(sys.argv[2:]).table.to_pydict())
"""


def test_the_graph_of_adapters_says_what_the_model_says(
    tagger: ModelFolder, tagger_graph: ExportFolder
) -> None:
    session, model = tagger_graph.session(), Source.of(tagger).module

    @settings(max_examples=25, deadline=None)
    @given(TOKENS)
    def holds(lists: list[list[int]]) -> None:
        tokens = np.zeros((len(lists), LONGEST), dtype=np.int64)
        for number, one in enumerate(lists):
            tokens[number, : len(one)] = one
        feed = fed(tokens, 0)
        (found,) = session.run(feed).values()
        with torch.no_grad():
            wanted = torch.softmax(model(torch.from_numpy(tokens)).double(), 2).numpy()
        assert found.shape == (len(lists), max(map(len, lists)), 5)
        assert np.abs(found - wanted[:, : found.shape[1]]).max() < 1e-5

    holds()
    assert tagger_graph.info.parity.rows == 16
    assert tagger_graph.info.parity.largest < 1e-5


@pytest.mark.parametrize("tuning", ["lora", "ffa_lora", "adalora", "full"])
def test_adapters_are_merged_into_plain_layers(tmp_path: Path, encoder: Path, tuning: str) -> None:
    """Held against W + (alpha / r) B A of numpy: in float32 each differs by its rounding alone."""
    more = f'tuning = "{tuning}"' + ('\nclasses = ["a", "b", "c"]' if tuning == "lora" else "")
    model = Source.of(text_folder(tmp_path / "model", encoder, "sequence", more)).module
    before = {name: value.clone() for name, value in model.state_dict().items()}
    merged = model.merged()
    names = {name for name, _ in merged.named_parameters()}
    assert not any("lora" in name or "base_layer" in name for name in names)
    tokens = torch.from_numpy(case_tokens(make_tokenizer(encoder), 60, LONGEST))
    with torch.no_grad():
        assert (model(tokens) - merged(tokens)).abs().max() < 5e-6
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    if tuning.endswith("lora") and tuning != "adalora":
        layer = "encoder.encoder.layer.0.attention.self.query"
        down, up = (before[f"{layer}.lora_{x}.default.weight"].double() for x in "AB")
        whole = before[f"{layer}.base_layer.weight"].double() + 16 / 4 * up @ down
        assert torch.equal(merged.state_dict()[f"{layer}.weight"], whole.float())


def test_texts_go_in_and_spans_come_out_without_torch(
    tagger: ModelFolder, tagger_graph: ExportFolder
) -> None:
    """By another process, in which torch can't be imported; the same as by the task itself."""
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tagger_graph.path), *TEXTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    task = tagger.task
    raw = task.rows_of_values(TEXTS)
    with torch.no_grad():
        outputs = Source.of(tagger).module(torch.from_numpy(raw.tokens.astype(np.int64)))
    wanted = task.predicted(raw, task.predictions(outputs, tagger.totals))
    assert done.stdout.strip() == str(wanted.to_pydict())
    assert len(raw) > len(TEXTS) and wanted.num_rows > 4


def test_a_long_table_is_fed_by_length_and_comes_back_in_order(
    tmp_path: Path, encoder: Path
) -> None:
    """Classes of whole texts: what the task's own predictions are, row by row."""
    more = 'classes = ["no", "yes"]\ntruncate = true'
    folder = text_folder(tmp_path / "model", encoder, "sequence", more)
    made = export_model(Source.of(folder), tmp_path / "onnx")
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(TEXTS[0].split(), draw.integers(1, 30))) for _ in range(70)]
    rows = rows_of_export(made)
    raw = rows.rows_of_values(texts)
    found = rows.predicted(raw, rows.predictions(made.session(), raw)).to_pydict()
    with torch.no_grad():
        outputs = Source.of(folder).module(torch.from_numpy(raw.tokens.astype(np.int64)))
    wanted = folder.task.predictions(outputs, folder.totals)["probability"]
    assert found["row"] == list(range(1, 71))
    assert np.abs(np.array(found["probability"]) - wanted).max() < 1e-5
    assert np.ptp(wanted) > 0.01
    lengths = (raw.tokens != 0).sum(1)
    assert [len(part) for part in by_length(raw.tokens, 0)] == [32, 32, 6]
    assert (np.diff(lengths[np.concatenate(list(by_length(raw.tokens, 0)))]) >= 0).all()


def test_the_file_tells_nothing_of_the_machine(
    tagger: ModelFolder, tagger_graph: ExportFolder
) -> None:
    graph = (tagger_graph.path / "model.onnx").read_bytes()
    for text in (
        "site-packages",
        str(Path(torch.__file__).parent),
        str(tagger.path),
        "stack_trace",
    ):
        assert text.encode() not in graph
