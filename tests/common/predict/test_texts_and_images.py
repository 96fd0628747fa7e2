"""Texts and images in every form that they lie in, or are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.common.tasks.text.tiny import SPECIAL, WORDS, tiny_encoder
from tests.unlike import Consortium
from wardround.common.errors import DataError
from wardround.common.predict import Predictor, load_model
from wardround.common.predict.given import pieces_of
from wardround.common.tasks.data.row_keys import identifier_digest
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.to_predict import image_pieces
from wardround.common.tasks.text.task import TextTask
from wardround.simulations import parse_config, simulate

SMALL = """
[federation]
rounds = 1
[secure_aggregation]
enabled = false
[simulation]
baselines = false
clients = 2
partition = "iid"
"""
TEXT = "[task]\nname = 'text'\nencoder = 'encoder'\nmax_length = 16\n"


def made(place: Path, text: str) -> Predictor:
    config = parse_config(SMALL + text, [f"federation.runs={place / 'runs'}"], place / "f.toml")
    return load_model(simulate(config).run_directory)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TextTask:
    encoder = tiny_encoder(tmp_path_factory.mktemp("tagger") / "encoder")
    return TextTask(encoder=str(encoder), max_length=16)


def spans_of(task: TextTask, rows: Any, *keep: str) -> list[dict[str, Any]]:
    """What is found where each 'fever' begins an entity, and an x goes on with one."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*SPECIAL, *WORDS, *letters]
    found: list[dict[str, Any]] = []
    for part in pieces_of(task, rows):
        tokens = part.raw.tokens
        tags = 1 * (tokens == words.index("fever")) + 2 * (tokens == words.index("x"))
        found += task.predicted(part.raw, {"tags": tags.astype(np.float64)}, keep).to_pylist()
    return found


def test_spans_are_where_the_words_stand(task: TextTask, tmp_path: Path) -> None:
    texts = ["Acute  fever, x of fever.", "", "the cough", "fever x"]
    found = spans_of(task, texts)
    spans = [(r["row"], r["start"], r["end"], r["text"]) for r in found]
    assert spans == [
        *((1, 7, 12, "fever"), (1, 14, 15, "x"), (1, 19, 24, "fever"), (4, 0, 7, "fever x")),
    ]
    assert all(texts[row - 1][start:end] == text for row, start, end, text in spans)
    assert {one["entity"] for one in found} == {"Disease"}
    (tmp_path / "notes.txt").write_text("\n".join(texts) + "\n")
    assert spans_of(task, tmp_path / "notes.txt") == found
    table = spans_of(task, {"text": texts, "bed": [1, 2, 3, 4]}, "bed")
    assert [one["bed"] for one in table] == [1, 1, 1, 4]
    one, two = spans_of(task, [["x", "fever"], ["of"]])
    assert (one["text"], two["text"], two["start"], two["end"]) == ("x", "fever", 2, 7)
    (tmp_path / "rows.iob").write_text("# patient = p1\nfever\nof\n\nthe\tO\nfever\tB-Other\n")
    found = spans_of(task, tmp_path / "rows.iob")
    assert [(r["row"], r["line"], r["patient"], r["start"]) for r in found] == [
        *((1, 2, "p1", 0), (2, 5, "p1", 4)),
    ]
    assert list(task.patients(task.load_rows(tmp_path / "rows.iob"))) == ["p1", "p1"]


def test_a_sentence_beyond_the_models_length_loses_no_word(task: TextTask) -> None:
    found = spans_of(task, [" ".join(["of", "fever"] * 40)])
    assert [one["start"] for one in found] == [3 + 9 * n for n in range(40)]


def test_rows_that_are_chosen_keep_their_words(task: TextTask) -> None:
    raw = task.rows_of_values(["fever", " ".join(["of", "fever"] * 20), "x"])
    part = task.select(raw, np.array([len(raw) - 2, 0]))
    tags = np.ones(part.tokens.shape)
    found = task.predicted(part, {"tags": tags}).to_pylist()
    assert [one["row"] for one in found] == [2] * (len(found) - 1) + [1]
    assert found[-2]["end"] == len(" ".join(["of", "fever"] * 20))


def test_texts_have_a_class_each(tmp_path: Path) -> None:
    tiny_encoder(tmp_path / "encoder")
    lines = "".join(f"acute fever {n},{'present' if n % 2 else 'absent'}\n" for n in range(40))
    (tmp_path / "rows.csv").write_text("text,label\n" + lines)
    model = made(tmp_path, f"{TEXT}kind = 'sequence'\n[data]\npath = 'rows.csv'\n")
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in "ab":
        (notes / f"{name}.txt").write_text(f"the cough\n{name}\n")
    (notes / "empty.txt").write_text("\n")
    found = model.predict(notes)
    assert found["file"].tolist() == ["a.txt", "b.txt"] and found.left_out[0].what == "files"
    again = model.predict(["the cough\na\n", "the cough\nb\n"])
    assert again["probability"].tobytes() == found["probability"].tobytes()
    with pytest.raises(DataError, match="number 2: no text"):
        model.predict(["one", 2])


def test_images_from_files_lists_arrays_and_paths_are_the_same(
    unlike: Callable[[str], Consortium], tmp_path: Path
) -> None:
    config = unlike("images2d").config("federation.rounds=1", runs=tmp_path / "runs")
    model = load_model(simulate(config).run_directory)
    generator = np.random.default_rng(0)
    options = model.task.options
    arrays = generator.integers(0, 256, (5, *options.size), dtype=np.uint8)
    folder = tmp_path / "pictures" / "inner"
    folder.mkdir(parents=True)
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{number}.png")
    (folder / "notes.md").write_text("none")
    expected = model.predict(arrays)
    found = model.predict(tmp_path / "pictures")
    assert found["file"].tolist() == [f"inner/{n}.png" for n in range(5)]
    assert [one.count for one in found.left_out] == [1]
    (tmp_path / "list.csv").write_text(
        "bed,file\n" + "".join(f"B{n},pictures/inner/{n}.png\n" for n in range(5))
    )
    listed = model.predict(tmp_path / "list.csv", keep=["bed"])
    assert listed["bed"].tolist() == [f"B{n}" for n in range(5)]
    np.savez(tmp_path / "all.npz", test_images=arrays)
    stored = model.predict(tmp_path / "all.npz")
    paths = model.predict([folder / f"{n}.png" for n in range(5)])
    assert paths["file"].tolist() == [f"{n}.png" for n in range(5)]
    outputs = [name for name in expected.columns if name.startswith("probability")]
    for other in (found, listed, stored, paths, model.predict(list(arrays))):
        assert all(np.array_equal(other[name], expected[name]) for name in outputs)


def test_images_come_in_parts_and_what_is_damaged_is_named_or_counted(tmp_path: Path) -> None:
    options = ImagingOptions(classes=["a", "b"], size=[8, 8])
    for number in range(5):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / f"{number}.png")
    parts = list(image_pieces(tmp_path, options, most_bytes=130))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert [int(x) for part in parts for x in part.pixels[:, 0, 0, 0]] == list(range(5))
    assert np.concatenate([part.named.column("row").to_numpy() for part in parts]).tolist() == [
        *range(1, 6)
    ]
    assert [part.patients for part in parts] == [None] * 3
    rows = "".join(f"{n}.png,{'p7' if n else ''}\n" for n in range(5))
    (tmp_path / "list.csv").write_text(f"file,whose\n{rows}")
    named = options.model_copy(
        update={"files": options.files.model_copy(update={"patient_id": "whose"})}
    )
    (listed,) = image_pieces(tmp_path / "list.csv", named)
    assert list(listed.patients) == ["unnamed image 1", *[identifier_digest("p7")] * 4]
    (tmp_path / "list.csv").unlink()
    (tmp_path / "2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="image 3 by name: not readable"):
        list(image_pieces(tmp_path, options))
