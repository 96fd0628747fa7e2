"""IOB and CSV files become rows of tokens; nothing is lost unsaid, no message quotes a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import DataError
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.text import TextTask
from wardround.common.tasks.text.encoder import make_tokenizer
from wardround.common.tasks.text.iob import Sentence, read_iob
from wardround.common.tasks.text.options import TextOptions
from wardround.common.tasks.text.rows import IGNORED
from wardround.common.tasks.text.tokenise import sentence_rows

SECRET = "Mustermann"


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def test_an_iob_file_is_read(tmp_path: Path) -> None:
    text = "\ufeff-DOCSTART-\tO\r\n\r\nacute\tB-X\r\nfever\tI-X\r\n\r\n\r\n# \tO\r\ncough pos B-Y"
    one, two = read_iob(written(tmp_path / "a.tsv", text), ["X", "Y"])
    assert one == Sentence(["acute", "fever"], [1, 2], 3, None)
    assert two == Sentence(["#", "cough"], [0, 3], 7, None)


def test_patients_stand_in_lines_before_their_sentences(tmp_path: Path, encoder: Path) -> None:
    text = "# patient = p 1\nfever\tO\n\ncough\tO\n# patient = 2\nfever\tB-Disease\n"
    path = written(tmp_path / "a.tsv", text)
    task = TextTask(encoder=str(encoder))
    rows = task.load(path)
    assert task.patients(rows).tolist() == ["p 1", "p 1", "2"]
    assert task.labels(rows).tolist() == [0, 0, 1]
    written(path, f"{SECRET}\tO\n\n" + text)
    with pytest.raises(DataError, match=r"a\.tsv:1: .*without a patient"):
        task.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"fever\tO\n{SECRET}\n", r"a\.tsv:2: not a word, a tab and a tag"),
        (f"fever\tO\n\n\tO\t{SECRET}", r"a\.tsv:3: not a word"),
        (f"fever\tO\n{SECRET}\tB-{SECRET}\n", r"a\.tsv:2: the tag is not O, .*\(X\)"),
        (f"{SECRET}\tS-X\n", r"a\.tsv:1: the tag"),
        ("\n\n", "no sentences"),
    ],
)
def test_a_bad_line_is_named_and_not_quoted(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path / "a.tsv", text)
    with pytest.raises(DataError, match=message) as caught:
        read_iob(path, ["X"])
    assert SECRET not in str(caught.value)


def test_a_file_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"fever\tO\n\xff\tO\n")
    with pytest.raises(DataError, match=r"a\.tsv:2: not UTF-8"):
        read_iob(tmp_path / "a.tsv", ["X"])


def test_files_names_say_the_split(tmp_path: Path, encoder: Path) -> None:
    for name in ("train", "devel", "test"):
        written(tmp_path / "shard" / f"{name}.tsv", "fever\tB-Disease\n\ncough\tO\n")
    written(tmp_path / "SOURCE.txt", "not a hospital")
    task = TextTask(encoder=str(encoder))
    assert list(task.sites(tmp_path)) == ["shard"]
    rows = task.load(tmp_path / "shard")
    assert task.given_split(rows).tolist() == ["validation"] * 2 + ["test"] * 2 + ["train"] * 2
    chosen = rows.select(np.array([5, 0]))
    assert chosen.splits.tolist() == ["train", "validation"]
    assert [chosen.files[file].name for file in chosen.origin[:, 0]] == ["train.tsv", "devel.tsv"]
    written(tmp_path / "shard" / "SOURCE.md", "x")
    written(tmp_path / "shard" / "old" / "train.tsv", "fever\tO\n")
    left = task.load(tmp_path / "shard").left_out
    assert [(one.count, one.what) for one in left] == [(1, "folders"), (1, "files")]
    written(tmp_path / "shard" / "more.tsv", "fever\tO\n")
    with pytest.raises(DataError, match="more.tsv: .*neither train, devel nor test"):
        task.load(tmp_path / "shard")
    with pytest.raises(DataError, match="no file to read"):
        task.load(written(tmp_path / "empty" / "a.txt", "").parent)


words = st.lists(st.text("abcdefgh", min_size=1, max_size=9), min_size=1, max_size=40)


@settings(deadline=None, max_examples=60)
@given(words=words, data=st.data(), length=st.integers(12, 40))
def test_a_long_sentence_becomes_rows_that_together_are_it(encoder, words, data, length) -> None:
    """No word, token or tag is lost; a cut is inside an entity only if the entity fills the row."""
    size = len(words)
    tags = data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    tokenizer = make_tokenizer(encoder)
    options = TextOptions(max_length=length)
    sentence = Sentence(words, tags, 1, None)
    rows = sentence_rows([sentence], [Path("x")], np.zeros(1, int), None, options, tokenizer)
    inner = [[t for t in row if t not in (0, 2, 3)] for row in rows.tokens.tolist()]
    (expected,) = tokenizer.word_tokens([words])
    assert sum(inner, []) == sum(expected, [])
    pieces = [row[row != IGNORED].tolist() for row in rows.targets]
    assert sum(pieces, []) == tags
    for piece, following in zip(pieces, pieces[1:], strict=False):
        if following[0] == 2:
            assert all(tag == 2 for tag in piece[1:])
    assert rows.pieces == (len(rows) > 1) and not rows.left_out
    assert (rows.tokens != tokenizer.pad).sum(1).max() <= length


def test_only_a_words_first_token_has_a_target(tmp_path: Path, encoder: Path) -> None:
    path = written(tmp_path / "a.tsv", "acute\tB-Disease\nxyz\tI-Disease\n\u200b\tO\n[SEP]\tO\n")
    rows = TextTask(encoder=str(encoder), max_length=16).load(path)
    vocabulary = make_tokenizer(encoder)
    (pieces,) = vocabulary.word_tokens([["acute", "xyz", "\u200b", "[SEP]"]])
    assert [len(one) for one in pieces[:3]] == [1, 3, 1] and 3 not in pieces[3]
    filled = [IGNORED, 1, 2, IGNORED, IGNORED, 0, 0, *[IGNORED] * 9]
    assert rows.targets[0].tolist() == filled
    assert rows.tokens[0, 0] == 2 and rows.tokens[0, 5] == 1  # [CLS]; nothing left of the word


def test_a_word_longer_than_a_row_is_shortened_and_said(tmp_path: Path, encoder: Path) -> None:
    path = written(tmp_path / "a.tsv", "a" * 50 + "\tB-Disease\nfever\tO\n")
    task = TextTask(encoder=str(encoder), max_length=16)
    rows = task.load(path)
    assert len(rows) == 2
    assert [(x.count, x.what) for x in task.left_out(rows)] == [(1, "ends of words")]


CSV = {"kind": "sequence", "columns": {"text": "note", "label": "y"}}


def test_texts_of_a_csv_file(tmp_path: Path, encoder: Path) -> None:
    path = written(
        tmp_path / "a.csv", 'y,note,who\npresent,"acute\nfever",1\nabsent,cough,2\n,x,3\n'
    )
    columns = CSV["columns"] | {"patient_id": "who"}
    task = TextTask(encoder=str(encoder), kind="sequence", columns=columns)
    rows = task.load(path)
    assert task.labels(rows).tolist() == [1, 0]
    assert task.patients(rows).tolist() == ["1", "2"]
    assert rows.origin[:, 1].tolist() == [2, 4]
    examples = task.prepare(rows, {}, rows)
    assert examples.targets.tolist() == [1.0, 0.0]
    assert task.left_out(rows) == (LeftOut(1, "rows", "without a label"),)


def test_how_files_of_texts_are_written_is_found_and_told(tmp_path: Path, encoder: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("y;note\npresent;Fieber, Übelkeit\nabsent;Husten, 3,5\n".encode("cp1252"))
    task = TextTask(encoder=str(encoder), kind="sequence", columns=CSV["columns"])
    rows = task.load(path)
    told = "read with semicolons between columns, Windows-1252"
    assert task.labels(rows).tolist() == [1, 0] and told in task.warnings(rows)


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        (f"note,y\n{SECRET},{SECRET}\n", {}, "a.csv:2: column 'y': a class"),
        ("note,y\n" + "a" * 90 + ",present\n", {"max_length": 16}, "a.csv:2: .*task.truncate"),
        ("note\nfever\n", {}, "no column 'y'"),
        ("note,y\n,present\n", {}, "no row has both"),
        ("note,y,s\nx,present,later\n", {"split": "s"}, "a.csv:2: column 's': must be train"),
        ("note,y,p\nx,present,\n", {"patient_id": "p"}, "a.csv:2: column 'p': a row without"),
        ("Mustermann fell,present\nx,absent\n", {}, "is the first line a header"),
    ],
)
def test_what_is_wrong_in_a_csv_file_is_named(tmp_path, encoder, text, more, message) -> None:
    path = written(tmp_path / "a.csv", text)
    named = {k: v for k, v in more.items() if k in ("split", "patient_id")}
    rest = {k: v for k, v in more.items() if k not in named}
    columns = CSV["columns"] | named
    task = TextTask(encoder=str(encoder), kind="sequence", columns=columns, **rest)
    with pytest.raises(DataError, match=message) as caught:
        task.load(path)
    assert SECRET not in str(caught.value)


def test_truncation_is_asked_for_and_said(tmp_path: Path, encoder: Path) -> None:
    path = written(tmp_path / "a.csv", "note,y\n" + "a" * 90 + ",present\nx,absent\n")
    task = TextTask(encoder=str(encoder), max_length=16, truncate=True, **CSV)
    rows = task.load(path)
    assert rows.tokens.shape == (2, 16) and rows.tokens[0, -1] == 3  # [SEP] is kept
    assert [(x.count, x.what) for x in task.left_out(rows)] == [(1, "ends of texts")]


def test_the_built_in_example_needs_no_file(encoder: Path) -> None:
    tokens = TextTask(encoder=str(encoder), max_length=64).load(None)
    assert len(tokens) == 192 and not tokens.pieces and not tokens.left_out
    texts = TextTask(encoder=str(encoder), max_length=64, kind="sequence").load(None)
    assert len(texts) == 192 and texts.targets.sum() == 96
    with pytest.raises(DataError, match="set data.path"):
        TextTask(encoder=str(encoder), entities=["Drug"]).load(None)
