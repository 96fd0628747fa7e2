"""``init --data`` of JSON lines: prompts and responses, conversations, answers to choose from.

A line is looked at by its keys. No text of a line is shown, but answers of a few words that enough
lines share: these are choices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wardround.common.errors import ConfigError, DataError
from wardround.common.tasks.data.profile import LEAST
from wardround.common.tasks.data.profile.words import says_patient
from wardround.common.tasks.data.reading.content import read_text
from wardround.common.tasks.data.shards import (
    SPLIT_NAMES,
    shard_files,
    shard_sites,
    splits_of,
    visible,
)
from wardround.common.tasks.text.causal.reading import READABLE, conversation, read_lines
from wardround.common.tasks.text.causal.task import CausalTask
from wardround.common.tasks.text.options import MOST_CHOICES, TextOptions
from wardround.simulations.beginning.decide import Hospitals, dealt
from wardround.simulations.beginning.texts import TextStudy, room
from wardround.simulations.beginning.words import says_split
from wardround.simulations.search.values import toml_text

_KEYS = {
    "messages": ("messages", "conversation", "conversations", "dialogue"),
    "prompt": ("prompt", "question", "instruction", "query", "input"),
    "response": ("response", "answer", "output", "completion", "reply", "final_decision"),
    "choices": ("choices", "options"),
}
"""Names that files give to what a line says."""
_LINES = "lines"
_FEW, _SHORT = 10, 40
_LONGEST, _MEASURED, _MOST_TOKENS = 1024, 100, 8192
_TRAINING = ('optimizer = "adamw"', "lr = 0.001", "batch_size = 8", "local_steps = 5")


@dataclass(frozen=True)
class _Lines:
    """One hospital's: each with its file and line's number."""

    path: Path
    said: list[tuple[Path, int, Mapping[str, Any]]]
    by_files: bool


def find_lines(path: Path) -> TextStudy | None:
    """The study of a file or folder of JSON lines; None where there is none.

    Raises DataError with every problem, a line each; ConfigError where it is no study of texts.
    """
    sites = _sites(path)
    if not sites:
        return None
    found: dict[str, _Lines] = {}
    problems: list[str] = []
    for title, place in sites.items():
        try:
            found[title] = _read(place)
        except DataError as error:
            problems.extend(str(error).splitlines())
    if problems:
        raise DataError("\n".join(problems))
    lines = [line for one in found.values() for _, _, line in one.said]
    if any("resourceType" in line for line in lines):
        raise ConfigError(_fhir(path, lines))
    columns = _columns(path, lines)
    options = {"columns": columns} | _choices(lines, columns)
    length, told = _measured(found, options)
    return _study(path, found, options, length, told)


def _fhir(path: Path, lines: Sequence[Mapping[str, Any]]) -> str:
    kinds = Counter(str(line.get("resourceType")) for line in lines)
    listed = ", ".join(f"{name} ({count:,})" for name, count in kinds.most_common(8))
    return (
        f"{path}: a FHIR export: {listed}. Which patients, which event and which values a study "
        "asks can't be guessed: write them as [cohort] (docs/data.md#cohorts), and name this "
        'folder in a hospital\'s site.toml: [data.NAME], source = "fhir", path'
    )


def _sites(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {path.stem: path} if path.suffix.lower() in READABLE else {}
    entries = visible(path)
    files = [one for one in entries if one.is_file() and one.suffix.lower() in READABLE]
    if files and any(splits_of(one.stem for one in files).values()):
        return {path.name: path}
    if _is_export(files):
        return {path.name: path}
    return {
        name: place
        for name, place in shard_sites(path, READABLE).items()
        if place in files
        or (place.is_dir() and any(e.suffix.lower() in READABLE for e in visible(place)))
    }


def _is_export(files: Sequence[Path]) -> bool:
    """Whether they are of one FHIR export: Patient.ndjson, Observation.000.ndjson, ..."""
    return any(one.name.split(".")[0].casefold() == "patient" for one in files)


def _read(place: Path) -> _Lines:
    """Raises DataError with the problems of all files."""
    said: list[tuple[Path, int, Mapping[str, Any]]] = []
    problems: list[str] = []
    shard = shard_files(place, READABLE)
    for file, _ in shard.files:
        try:
            said += [(file, number, line) for number, line in read_lines(read_text(file), file)]
        except DataError as error:
            problems.append(str(error))
    if not said and not problems:
        problems.append(f"{place}: there are no lines; check that this is the right file")
    if problems:
        raise DataError("\n".join(problems))
    return _Lines(place, said, any(split for _, split in shard.files))


def _columns(path: Path, lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """``[task.columns]``: which key is which, of those that every line has (of choices, any)."""
    keys = Counter(key for line in lines for key in line)
    shared = [key for key, count in keys.items() if count == len(lines)]
    found: dict[str, str] = {}
    for name, known in _KEYS.items():
        among = list(keys) if name == "choices" else shared
        meant = next((one for word in known for one in among if one.casefold() == word), None)
        if meant is not None and meant not in found.values():
            found[name] = meant
    if "messages" in found:
        found.pop("prompt", None)
        found.pop("response", None)
    if not {"messages", "prompt"} & set(found):
        raise ConfigError(
            f"{path}: JSON lines of which none of the keys is a prompt or messages; give every "
            "line 'prompt' and 'response', or 'messages' (docs/text.md#language-models); for "
            "classes of texts save the lines as CSV with a column of texts and one of labels"
        )
    if "choices" in found:
        found |= {"answer": found.pop("response")} if "response" in found else {}
    for key in shared:
        texts = {str(line[key]).strip().casefold() for line in lines}
        if says_patient(key) and "patient_id" not in found:
            found["patient_id"] = key
        elif says_split(key) and texts <= set(SPLIT_NAMES) and "split" not in found:
            found["split"] = key
    return found


def _choices(lines: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> dict[str, Any]:
    """``task.choices``, where responses are a few short texts that enough lines share."""
    if "response" not in columns or "choices" in columns:
        return {}
    counts = Counter(str(line[columns["response"]]).strip() for line in lines)
    few = 2 <= len(counts) <= min(_FEW, MOST_CHOICES)
    if not few or min(counts.values()) < LEAST or max(map(len, counts)) > _SHORT:
        return {}
    return {"choices": sorted(counts)}


def _measured(found: Mapping[str, _Lines], options: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Tokens that the longest conversations need, and what is told of longer ones.

    Raises DataError with every line that is no conversation.
    """
    try:
        task = CausalTask(kind="causal", max_length=_MOST_TOKENS, cut="end", **options)
    except ValidationError as error:
        raise ConfigError(str(error.errors()[0]["msg"])) from None
    template = task.template()
    problems: list[str] = []
    longest = 0
    for one in found.values():
        wrong, said = _conversations(one, task.options)
        problems += wrong
        by_length = sorted(said, key=lambda pair: len(str(pair[1])), reverse=True)
        for place, talk in by_length[:_MEASURED]:
            try:
                longest = max(longest, len(template.encode(talk, place)))
            except DataError as error:
                problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    if longest <= _LONGEST:
        return room(longest, _LONGEST), []
    return _LONGEST, [
        f"some conversations have more than {_LONGEST:,} tokens (the longest {longest:,}): they "
        "lose the end of their longest message (task.cut)"
    ]


def _conversations(one: _Lines, options: TextOptions) -> tuple[list[str], list[tuple[str, Any]]]:
    problems, said = [], []
    for file, number, line in one.said:
        place = f"{file}:{number}"
        try:
            said.append((place, conversation(line, place, number, options)))
        except DataError as error:
            problems.append(str(error))
    return problems, said


def _study(
    path: Path,
    found: Mapping[str, _Lines],
    options: Mapping[str, Any],
    length: int,
    told: Sequence[str],
) -> TextStudy:
    columns = dict(options["columns"])
    if any(one.by_files for one in found.values()):
        columns.pop("split", None)
    where = path
    if len(found) > 1:
        hospitals = Hospitals("sites", len(found))
    else:
        (one,) = found.values()
        where, key = one.path, columns.get("patient_id")
        units = len({str(line[key]) for _, _, line in one.said}) if key else len(one.said)
        if units < 2:
            raise DataError(f"{path}: one line, or one patient: no two hospitals can be made of it")
        hospitals = dealt(units, key is not None)
    counts = {title: _counts(one, options, columns) for title, one in found.items()}
    named = {key: name for key, name in columns.items() if key != name}
    return TextStudy(
        "answers",
        where,
        hospitals,
        list(_task(options, length, bool(told))),
        ["[task.columns]", *(f"{k} = {toml_text(v)}" for k, v in named.items())] if named else (),
        counts,
        tuple(told),
        rounds=3,
        training=_TRAINING,
    )


def _task(options: Mapping[str, Any], length: int, cut: bool) -> Iterator[str]:
    yield 'kind = "causal"'
    if "choices" in options:
        why = "all responses are one of these"
        yield f"choices = {toml_text(options['choices'])}  # {why}"
    yield f"max_length = {length}" + "  # tokens of the longest conversation" * (not cut)
    if cut:
        yield 'cut = "end"  # of the longest message, where a conversation is longer'


def _counts(one: _Lines, options: Mapping[str, Any], columns: Mapping[str, str]) -> Counter[str]:
    counts = Counter({_LINES: len(one.said)})
    if "choices" in options:
        counts.update(str(line[columns["response"]]).strip() for _, _, line in one.said)
    return counts
