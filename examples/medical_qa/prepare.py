"""PubMedQA as four hospitals: an instruction file for each, by the year of publication.

    python examples/medical_qa/prepare.py ori_pqal.json test_ground_truth.json FOLDER

Both files are of the GitHub repository pubmedqa/pubmedqa (folder ``data``; MIT). A line has the
prompt (the abstract without its conclusion, then the question), the right answer out of yes, no
and maybe, and the document's number; the 500 documents of the published test are ``test``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

CHOICES = ("yes", "no", "maybe")
LAST_YEARS = {"early": 2006, "middle": 2010, "late": 2013, "recent": 9999}
"""A hospital has the documents from the one before it up to this year."""
UNDATED = "late"
"""The smallest hospital gets the 58 documents without a year."""


def hospital_of(year: str | None) -> str:
    """Whose a document is."""
    if year is None:
        return UNDATED
    return next(name for name, last in LAST_YEARS.items() if int(year) <= last)


def line_of(number: str, document: dict, test: set[str]) -> dict:
    """One line of an instruction file."""
    text = "\n".join(document["CONTEXTS"])
    return {
        "id": number,
        "split": "test" if number in test else "train",
        "prompt": f"{text}\n\nQuestion: {document['QUESTION']}\nAnswer with yes, no or maybe.",
        "response": document["final_decision"],
        "choices": list(CHOICES),
    }


def write(documents: Path, test_answers: Path, folder: Path) -> dict[str, list[int]]:
    """Write a file for each hospital; its lines for training and for the test."""
    test = set(json.loads(test_answers.read_text("utf-8")))
    files: dict[str, list[dict]] = {name: [] for name in LAST_YEARS}
    for number, one in sorted(json.loads(documents.read_text("utf-8")).items()):
        files[hospital_of(one["YEAR"])].append(line_of(number, one, test))
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name, lines in files.items():
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines)
        (folder / f"{name}.jsonl").write_text(text, "utf-8")
        held_out = sum(one["split"] == "test" for one in lines)
        counts[name] = [len(lines) - held_out, held_out]
    return counts


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(f"usage: python {sys.argv[0]} ori_pqal.json test_ground_truth.json FOLDER")
    for name, (train, held_out) in write(*map(Path, sys.argv[1:])).items():
        print(f"{name}: {train} documents to train on, {held_out} of the published test")
