"""Text hospitals: tagged sentences and classified texts, on an encoder of two layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.common.tasks.text.causal.tiny import tiny_llama, write_lines
from tests.common.tasks.text.tiny import tiny_encoder
from tests.unlike.base import Consortium, consortium, write_csv

TAGS = """
[task]
name = "text"
kind = "tokens"
entities = ["Disease", "Drug"]
encoder = "encoder"
max_length = 16
"""
CLASSES = """
[task]
name = "text"
kind = "sequence"
classes = ["negative", "neutral", "positive"]
encoder = "encoder"
max_length = 64
[task.columns]
text = "text"
label = "label"
patient_id = "patient"
"""
LABELS = """
[task]
name = "text"
kind = "labels"
encoder = "encoder"
max_length = 32
[task.columns]
text = "text"
patient_id = "patient"
[task.heads]
topic = ["food", "wait", "staff"]
urgent = ["no", "yes"]
"""
ANSWERS = """
[task]
name = "text"
kind = "causal"
base_model = "base"
max_length = 64
cut = "start"
[task.columns]
prompt = "prompt"
response = "response"
patient_id = "patient"
"""
_PLAIN = ("the", "patient", "with", "of", "acute", "was", "seen", "and")


def _sentence(generator: np.random.Generator, entity: str | None) -> list[tuple[str, str]]:
    words = [(str(word), "O") for word in generator.choice(_PLAIN, int(generator.integers(3, 9)))]
    if entity == "Disease":
        words[1:1] = [("renal", "B-Disease"), ("failure", "I-Disease")]
    if entity == "Drug":
        words.append(("aspirin", "B-Drug"))
    return words


def _write_iob(path: Path, sentences: list[list[tuple[str, str]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = ["\n".join(f"{word}\t{tag}" for word, tag in sentence) for sentence in sentences]
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def entities(folder: Path) -> Consortium:
    """IOB files: an entity that one hospital alone has, one without any entity, one sentence, a
    very long sentence, a folder with its own split."""
    generator, place = np.random.default_rng(7), folder / "hospitals"
    tiny_encoder(folder / "encoder")
    some = [_sentence(generator, "Disease" if n % 3 else None) for n in range(30)]
    _write_iob(place / "north.tsv", some)
    both = [_sentence(generator, ("Disease", "Drug", None)[n % 3]) for n in range(24)]
    _write_iob(place / "süd (2).tsv", both)
    _write_iob(place / "none.tsv", [_sentence(generator, None) for _ in range(12)])
    _write_iob(place / "1002.tsv", [_sentence(generator, "Disease")])
    long = [pair for _ in range(12) for pair in _sentence(generator, "Disease")]
    _write_iob(place / "long.tsv", [long, *(_sentence(generator, "Disease") for _ in range(8))])
    for part, count in (("train", 16), ("devel", 6), ("test", 8)):
        rows = [_sentence(generator, "Disease" if n % 2 else None) for n in range(count)]
        _write_iob(place / "split" / f"{part}.tsv", rows)
    return consortium(folder, TAGS)


def classes_of_text(folder: Path) -> Consortium:
    """CSV files: a class that one hospital lacks, one class only, 1 and 2 rows, a missing label,
    several texts of a patient, blanks around labels."""
    generator, place = np.random.default_rng(8), folder / "hospitals"
    tiny_encoder(folder / "encoder")
    words = ("bad fever failure", "seen with the", "good and well")

    def rows(count: int, labels: tuple[int, ...], blank: str = "") -> list[list[object]]:
        found: list[list[object]] = []
        for number in range(count):
            label = labels[number % len(labels)]
            extra = " ".join(generator.choice(_PLAIN, 3))
            name = ("negative", "neutral", "positive")[label]
            found.append([f"{words[label]} {extra}", f"{blank}{name}", f"p{number // 2}"])
        return found

    header = ["text", "label", "patient"]
    write_csv(place / "north.csv", header, rows(30, (0, 1, 2)))
    write_csv(place / "south.csv", header, rows(33, (0, 2), blank=" "))
    write_csv(place / "St. Mary's.csv", header, rows(12, (1,)))
    write_csv(place / "1002.csv", header, rows(1, (2,)))
    write_csv(place / "a b #1.csv", header, rows(2, (0, 1)))
    missing = rows(14, (0, 1, 2))
    missing[3][1] = None
    write_csv(place / "Köln.csv", header, missing)
    rows_of = {"north": 30, "south": 33, "St. Mary's": 12, "1002": 1, "a b #1": 2, "Köln": 14}
    return consortium(folder, CLASSES, rows_of)


def heads_of_text(folder: Path) -> Consortium:
    """Two labels of a text: a topic that one hospital lacks, one label only, 1 and 2 rows, a label
    that is missing."""
    generator, place = np.random.default_rng(9), folder / "hospitals"
    tiny_encoder(folder / "encoder")

    def rows(count: int, topics: tuple[str, ...], urgent: tuple[str, ...]) -> list[list[object]]:
        return [
            [
                " ".join(generator.choice(_PLAIN, 6)),
                topics[number % len(topics)],
                urgent[number % len(urgent)],
                f"p{number // 2}",
            ]
            for number in range(count)
        ]

    header = ["text", "topic", "urgent", "patient"]
    every = ("food", "wait", "staff")
    write_csv(place / "north.csv", header, rows(30, every, ("no", "yes")))
    write_csv(place / "south.csv", header, rows(33, ("food", "wait"), ("no",)))
    write_csv(place / "St. Mary's.csv", header, rows(12, ("staff",), ("yes",)))
    write_csv(place / "1002.csv", header, rows(1, ("food",), ("no",)))
    write_csv(place / "a b #1.csv", header, rows(2, ("food", "staff"), ("no", "yes")))
    missing = rows(14, every, ("no", "yes", "no"))
    missing[3][1] = None
    write_csv(place / "Köln.csv", header, missing)
    rows_of = {"north": 30, "south": 33, "St. Mary's": 12, "1002": 1, "a b #1": 2, "Köln": 14}
    return consortium(folder, LABELS, rows_of)


def answers(folder: Path) -> Consortium:
    """Prompts and responses as JSON lines: one answer only, 1 and 2 rows, a long prompt, an
    answer that one hospital alone has, several of a patient."""
    generator, place = np.random.default_rng(10), folder / "hospitals"
    tiny_llama(folder / "base")

    def rows(count: int, said: tuple[str, ...], words: int = 4) -> list[dict[str, object]]:
        return [
            {
                "prompt": " ".join(generator.choice(_PLAIN, words)),
                "response": said[number % len(said)],
                "patient": f"p{number // 2}",
            }
            for number in range(count)
        ]

    write_lines(place / "north.jsonl", rows(24, ("yes", "no")))
    write_lines(place / "south.jsonl", rows(33, ("no",)))
    write_lines(place / "St. Mary's.jsonl", rows(12, ("yes", "no", "maybe")))
    write_lines(place / "1002.jsonl", rows(1, ("yes",)))
    write_lines(place / "a b #1.jsonl", rows(2, ("yes", "no")))
    write_lines(place / "Köln.jsonl", [*rows(9, ("yes", "no")), *rows(1, ("no",), 60)])
    rows_of = {"north": 24, "south": 33, "St. Mary's": 12, "1002": 1, "a b #1": 2, "Köln": 10}
    return consortium(folder, ANSWERS, rows_of)
