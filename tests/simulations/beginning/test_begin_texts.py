"""``wardround init --data`` of texts: tagged words, classes, several heads, pairs, JSON lines."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.simulations.beginning.tables import plain, write
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, DataError
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.simulations.beginning.begin import looked_at
from wardround.simulations.beginning.start import start
from wardround.simulations.beginning.text_lines import find_lines
from wardround.simulations.beginning.text_tables import text_study
from wardround.simulations.beginning.text_tags import find_tags
from wardround.simulations.beginning.texts import TextStudy, study_file

CANARY = "Kanarienvogel"
WORDS = "seen on the ward with fever and pain after surgery today".split()
Find = Callable[[Path], TextStudy | None]


def text(number: int, words: int = 6) -> str:
    return " ".join(WORDS[(number * 7 + place * 3) % len(WORDS)] for place in range(words))


def tagged(folder: Path, name: str, types: str = "Sign Place") -> None:
    found = types.split()
    tags = [f"B-{found[n % len(found)]}" for n in range(9)]
    sentences = [
        "\n".join(f"{word}\t{tag if word == 'pain' else 'O'}" for word in WORDS) for tag in tags
    ]
    write(folder / f"{name}.tsv", "\n\n".join(sentences))


def table(
    folder: Path, name: str, header: str, cells: Callable[[int], str], rows: int = 30
) -> None:
    write(folder / f"{name}.csv", header, *(cells(number) for number in range(rows)))


def lines(folder: Path, name: str, of: Callable[[int], dict[str, Any]], more: str = "") -> None:
    write(folder / f"{name}.jsonl", *(json.dumps(of(number)) for number in range(12)), more)


def _of_tables(path: Path) -> TextStudy | None:
    return text_study(looked_at(path, Dialect()), None, ())


def _tags(folder: Path) -> None:
    for name in ("north", "south"):
        tagged(folder, name)


def _sequence(folder: Path) -> None:
    for name in ("north", "south"):
        table(
            folder, name, "note,label,MRN", lambda n: f"{text(n)},{('no', 'yes')[n % 2]},{n // 2}"
        )


def _heads(folder: Path) -> None:
    for name in ("north", "south"):
        table(
            folder,
            name,
            "report,topic,mood",
            lambda n: f"{text(n)},{('food', 'staff', 'rooms')[n % 3]},{('bad', 'good')[n % 2]}",
        )


def _pairs(folder: Path) -> None:
    for name in ("north", "south"):
        table(folder, name, "question,answer", lambda n: f"{text(n)},{text(n + 1, 9)}")


def _choices(folder: Path) -> None:
    for name in ("north", "south"):
        lines(folder, name, lambda n: {"question": text(n), "answer": ("no", "yes")[n % 2]})


def _own_choices(folder: Path) -> None:
    for name in ("north", "south"):
        lines(
            folder,
            name,
            lambda n: {"prompt": text(n), "options": [text(n), text(n + 1)], "answer": n % 2},
        )


def _messages(folder: Path) -> None:
    def said(number: int) -> dict[str, Any]:
        roles = ("user", "assistant")
        talk = [{"role": role, "content": text(number + n)} for n, role in enumerate(roles)]
        return {"messages": talk, "patient": f"P{number // 2}"}

    lines(folder, "all", said)


KINDS: dict[str, tuple[Callable[[Path], None], Find, dict[str, Any]]] = {
    "tags": (_tags, find_tags, {"kind": "tokens", "entities": ["Place", "Sign"]}),
    "classes": (
        _sequence,
        _of_tables,
        {
            "kind": "sequence",
            "classes": ["no", "yes"],
            "max_length": 32,
            "columns": {"text": "note", "label": "label", "patient_id": "MRN"},
        },
    ),
    "heads": (
        _heads,
        _of_tables,
        {
            "kind": "labels",
            "max_length": 32,
            "columns": {"text": "report"},
            "heads": {"topic": ["food", "rooms", "staff"], "mood": ["good", "bad"]},
        },
    ),
    "pairs": (
        _pairs,
        _of_tables,
        {"kind": "pairs", "max_length": 32, "columns": {"text": "question", "answer": "answer"}},
    ),
    "choices": (
        _choices,
        find_lines,
        {
            "kind": "causal",
            "choices": ["no", "yes"],
            "columns": {"prompt": "question", "response": "answer"},
        },
    ),
    "own choices": (
        _own_choices,
        find_lines,
        {"kind": "causal", "columns": {"choices": "options"}},
    ),
    "messages": (_messages, find_lines, {"kind": "causal", "columns": {"patient_id": "patient"}}),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_becomes_a_task_that_reads_all_of_it(tmp_path: Path, name: str) -> None:
    """``start`` tries the model, too; here only the rows, as each hospital's are read."""
    make, find, expected = KINDS[name]
    make(tmp_path / "h")
    study = find(tmp_path / "h")
    assert study is not None
    made = study_file(study, str(study.path))
    task = tomllib.loads(made)["task"]
    length = task.get("max_length", 32)
    assert (
        length % 32 == 0
        and task == {"name": "text", "max_length": length} | expected
        or ("max_length" not in task and task == {"name": "text"} | expected)
    )
    read = make_task(parse_config(made))
    places = [study.path] if study.one_set else sorted(study.path.iterdir())
    counts = [
        sum(one.get(key, 0) for key in ("texts", "lines", "sentences"))
        for one in study.counts.values()
    ]
    assert [len(read.load(place)) for place in places] == counts
    partition = tomllib.loads(made)["simulation"]["partition"]
    assert partition == ("patient" if name == "messages" else "sites")


def test_from_the_files_to_a_file_that_was_tried(tmp_path: Path) -> None:
    _sequence(tmp_path / "h")
    found = start(tmp_path / "f.toml", tmp_path / "h", "label", ["no"])
    assert tomllib.loads(found.text)["task"]["classes"] == ["yes", "no"]
    with pytest.raises(ConfigError, match="--target: 'mood' is no column of classes; there are: l"):
        start(tmp_path / "f.toml", tmp_path / "h", "mood")


def test_what_one_hospital_lacks_is_told(tmp_path: Path) -> None:
    _tags(tmp_path / "tags")
    tagged(tmp_path / "tags", "west", "sign")
    study = find_tags(tmp_path / "tags")
    assert study is not None
    said = "west has no entity of type Place, Sign; is its 'sign' the same as 'Sign'?"
    assert said in study.told
    _heads(tmp_path / "h")
    table(tmp_path / "h", "west", "report,topic,mood", lambda n: f"{text(n)},food,good")
    found = _of_tables(tmp_path / "h")
    assert found is not None
    assert "west has no text of class rooms, staff (column 'topic')" in found.told


def test_what_does_not_fit_is_told_at_once_and_without_a_cell(tmp_path: Path) -> None:
    _choices(tmp_path / "lines")
    lines(tmp_path / "lines", "east", lambda n: {"question": CANARY, "answer": "x"}, f'{{"{CANARY}')
    lines(tmp_path / "lines", "west", lambda n: {"question": CANARY, "answer": "x"}, f"[{CANARY}]")
    with pytest.raises(DataError) as caught:
        find_lines(tmp_path / "lines")
    assert [line.rpartition("/")[2] for line in str(caught.value).splitlines()] == [
        "east.jsonl:13: not an object of JSON in one line",
        "west.jsonl:13: not an object of JSON in one line",
    ]
    _sequence(tmp_path / "h")
    table(
        tmp_path / "h", "west", "note,label,MRN", lambda n: f"{text(n)},{('No', CANARY)[n < 3]},1"
    )
    with pytest.raises(DataError) as caught:
        _of_tables(tmp_path / "h")
    first, second = str(caught.value).splitlines()
    assert first.startswith("column 'label': 3 rows with classes that too few rows share")
    assert "'No' and 'no' are one class" in second and CANARY not in str(caught.value)


def test_what_cannot_be_guessed_says_what_to_write(tmp_path: Path) -> None:
    lines(tmp_path / "l", "north", lambda n: {"text": CANARY, "label": n % 2})
    with pytest.raises(ConfigError, match="save the lines as CSV") as caught:
        start(tmp_path / "f.toml", tmp_path / "l")
    assert CANARY not in str(caught.value)
    (tmp_path / "fhir").mkdir()
    for kind in ("Patient", "Condition"):
        said = json.dumps({"resourceType": kind, "id": CANARY})
        (tmp_path / "fhir" / f"{kind}.000.ndjson").write_text(said + "\n")
    with pytest.raises(ConfigError, match=r"FHIR export: Condition \(1\).* \[cohort\]") as caught:
        start(tmp_path / "f.toml", tmp_path / "fhir")
    assert CANARY not in str(caught.value)
    for name in ("person", "measurement"):
        write(tmp_path / "omop" / f"{name}.csv", "person_id,x", "1,2")
    with pytest.raises(ConfigError, match=r'OMOP .*source = "omop"'):
        start(tmp_path / "f.toml", tmp_path / "omop")


def test_a_head_by_a_name_that_no_head_can_have_is_told_by_it(tmp_path: Path) -> None:
    table(
        tmp_path / "h",
        "north",
        "note,lung opacity,v1.2",
        lambda n: f"{text(n)},{('clear', 'dense')[n % 2]},{('old', 'new')[n % 3 > 0]}",
    )
    with pytest.raises(DataError, match="'lung opacity': names of letters.*rename the column"):
        start(tmp_path / "f.toml", tmp_path / "h")


def test_which_class_is_positive_is_said_of_one_column_of_two_classes_or_refused(
    tmp_path: Path,
) -> None:
    _sequence(tmp_path / "h")
    with pytest.raises(ConfigError, match="both classes would be 1"):
        start(tmp_path / "f.toml", tmp_path / "h", positive=["no", "yes"])
    _pairs(tmp_path / "p")
    with pytest.raises(ConfigError, match="leave it out"):
        start(tmp_path / "f.toml", tmp_path / "p", positive=["yes"])


def test_a_note_beside_measured_values_leaves_a_table_a_table(tmp_path: Path) -> None:
    folder = plain(tmp_path / "h")
    for path in sorted(folder.iterdir()):
        head, *rows = path.read_text().splitlines()
        write(path, head + ",note", *(f"{row},{text(n)}" for n, row in enumerate(rows)))
    assert _of_tables(folder) is None and find_tags(folder) is None and find_lines(folder) is None
