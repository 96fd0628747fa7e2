"""``init --data`` of tables whose inputs are texts: classes of texts by one column or by several,
or texts and what answers them.

Tables with measured values stay tables: a text is one column of many there, and isn't used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from wardround.common.errors import ConfigError, DataError
from wardround.common.tasks.class_limits import MOST_CLASSES
from wardround.common.tasks.data.profile import Profile
from wardround.common.tasks.data.profile.words import name_words
from wardround.common.tasks.data.shards import SPLIT_NAMES
from wardround.common.tasks.text import encoder
from wardround.common.text import normal_text
from wardround.simulations.beginning.decide import Hospitals, dealt
from wardround.simulations.beginning.found import Found
from wardround.simulations.beginning.roles import patient_column
from wardround.simulations.beginning.seen import Seen, side_by_side
from wardround.simulations.beginning.text import toml_key
from wardround.simulations.beginning.texts import LONGEST, TextStudy, room
from wardround.simulations.beginning.words import (
    DID_NOT,
    HAPPENED,
    NO,
    YES,
    says_split,
    target_rank,
)
from wardround.simulations.search.values import toml_text

_WORDS = 3.0
"""Mean words of a cell from which on a column is one of texts."""
_MEASURED = 100
_ASKS = frozenset("text question query prompt title body note report comment befund frage".split())
_ANSWERS = frozenset("answer response reply antwort passage".split())


@dataclass(frozen=True)
class _Columns:
    """texts : columns of texts; labels : of classes; patient, split : their columns' names"""

    texts: list[str]
    labels: list[str]
    patient: str | None
    split: str | None
    seen: Mapping[str, Seen]


def text_study(found: Found, target: str | None, positive: Sequence[str]) -> TextStudy | None:
    """The study of tables whose inputs are texts; None of all other tables.

    Raises ConfigError where the researcher must say more, DataError with every problem.
    """
    columns = _columns(found)
    if columns is None:
        return None
    heads = _heads(columns, target)
    if not heads:
        if positive:
            raise ConfigError("--positive is of a column with two classes; leave it out")
        return _pairs(found, columns)
    problems: list[str] = []
    classes = {name: _classes(columns.seen[name], positive, problems) for name in heads}
    if positive and (len(heads) > 1 or len(classes[heads[0]]) != 2):
        raise ConfigError("--positive is of one column with two classes; name it with --target")
    if len(positive) > 1:
        raise ConfigError("--positive: both classes would be 1; name one")
    if problems:
        raise DataError("\n".join(problems))
    text = _one_text(columns)
    if len(heads) == 1:
        task = ['kind = "sequence"', f"classes = {toml_text(classes[heads[0]])}"]
        roles = {"text": text, "label": heads[0]}
        more: list[str] = []
    else:
        task, roles = ['kind = "labels"'], {"text": text}
        more = ["[task.heads]", *(f"{toml_key(n)} = {toml_text(classes[n])}" for n in heads)]
    counts = {
        shard.title: Counter({"texts": shard.table.num_rows}) + _of_classes(shard.profile, heads)
        for shard in found.shards
    }
    told = list(_lacking(columns.seen, classes))
    return _study(found, columns, "-".join(heads), [task, more], roles, counts, told)


def _columns(found: Found) -> _Columns | None:
    """None where no column of texts is everywhere, or one has measured values."""
    seen = {name: one for name, one in side_by_side(found.shards).items() if one.everywhere}
    patient = patient_column(seen)
    split = next(
        (n for n, s in seen.items() if says_split(n) and s.texts and s.texts <= set(SPLIT_NAMES)),
        None,
    )
    rest = {name: one for name, one in seen.items() if name not in (patient, split)}
    if any(one.kind == "number" for one in rest.values()):
        return None
    texts = [name for name, one in rest.items() if _is_text(found, name, one)]
    labels = [
        name
        for name, one in rest.items()
        if name not in texts and one.kind in ("binary", "category")
    ]
    whole = [name for name, one in rest.items() if one.kind == "integer"]
    if not texts or (whole and not all(_are_grades(rest[name]) for name in whole)):
        return None
    return _Columns(texts, [*labels, *whole], patient, split, seen)


def _are_grades(one: Seen) -> bool:
    return len(one.texts) <= 10 and all(part.numeric for _, part in one.filled)


def _is_text(found: Found, name: str, one: Seen) -> bool:
    if one.kind not in ("text", "category", "identifier"):
        return False
    words, rows = 0.0, 0
    for shard in found.shards:
        cells = shard.table.column(name)
        if pa.types.is_dictionary(cells.type):
            cells = cells.cast(cells.type.value_type)
        if not (pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)):
            return False
        cells = cells.drop_null()
        words += float(pc.sum(pc.count_substring(cells, " ")).as_py() or 0) + len(cells)
        rows += len(cells)
    return rows > 0 and words / rows >= _WORDS


def _heads(columns: _Columns, target: str | None) -> list[str]:
    """Columns of classes: the one that is asked for, the one that says it, or all."""
    if target is not None:
        name = normal_text(target)
        if name in columns.labels:
            return [name]
        if name in columns.texts:
            return []
        listed = ", ".join(columns.labels) or "none has a few values"
        raise ConfigError(f"--target: '{target}' is no column of classes; there are: {listed}")
    for least in (2, 1):
        named = [name for name in columns.labels if target_rank(name) >= least]
        if len(named) == 1:
            return named
    return columns.labels


def _one_text(columns: _Columns) -> str:
    """The column that is read: of several the one that a name says, else the first."""
    asked = [name for name in columns.texts if _says(name, _ASKS)]
    return (asked or columns.texts)[0]


def _says(name: str, words: frozenset[str]) -> bool:
    return not words.isdisjoint(name_words(name))


def _pairs(found: Found, columns: _Columns) -> TextStudy:
    answers = [name for name in columns.texts if _says(name, _ANSWERS)]
    if len(columns.texts) != 2 or len(answers) > 1:
        raise ConfigError(
            "these tables have texts and no column of a few classes; which column is the class? "
            "--target COLUMN; of texts and their answers call the columns 'text' and 'answer'"
        )
    answer = answers[0] if answers else columns.texts[1]
    (text,) = (name for name in columns.texts if name != answer)
    told = [] if answers else [f"column '{answer}' is taken for what answers '{text}'"]
    counts = {s.title: Counter({"texts": s.table.num_rows}) for s in found.shards}
    roles = {"text": text, "answer": answer}
    return _study(found, columns, "pairs", [['kind = "pairs"'], []], roles, counts, told)


# --- classes --------------------------------------------------------------------------------------
def _classes(one: Seen, positive: Sequence[str], problems: list[str]) -> list[str]:
    """A column's classes, of two the positive one last; what doesn't fit is added to problems."""
    rare = sum(sum(counts.values()) for text, counts in one.groups.items() if not one.shown(text))
    if rare:
        problems.append(
            f"column '{one.name}': {rare} row{'s' * (rare > 1)} with classes that too few rows "
            "share to be shown; mend the cells, or empty them"
        )
    for text, spellings in sorted(one.groups.items()):
        if one.shown(text) and len(spellings) > 1:
            problems.append(
                f"column '{one.name}': {' and '.join(repr(s) for s in sorted(spellings))} are one "
                "class by their letters, but case counts; write it alike in all files"
            )
    names = sorted(one.called(text) for text in one.groups if one.shown(text))
    if not 2 <= len(names) <= MOST_CLASSES:
        problems.append(
            f"column '{one.name}': {len(names)} class{'es' * (len(names) != 1)} that enough rows "
            f"share; 2 to {MOST_CLASSES:,} can be told apart"
        )
    if len(names) != 2:
        return names
    asked = [normal_text(text) for text in positive]
    if unknown := [text for text in asked if text not in names]:
        raise ConfigError(f"--positive: '{unknown[0]}' is none of {', '.join(names)}")
    rows = {name: sum(one.groups[name.casefold()].values()) for name in names}
    ones = [name for name in names if name.casefold() in YES | HAPPENED]
    zeros = [name for name in names if name.casefold() in NO | DID_NOT]
    others = [name for name in names if name not in zeros]
    last = (
        asked
        or ones
        or (others if len(others) == 1 else [])
        or sorted(names, key=lambda name: rows[name])
    )[0]
    return sorted(names, key=lambda name: name == last)


def _of_classes(profile: Profile, heads: Sequence[str]) -> Counter[str]:
    """Rows by class that enough share, of one column of classes; of several none."""
    if len(heads) != 1:
        return Counter()
    return Counter(profile[heads[0]].shared)


def _lacking(seen: Mapping[str, Seen], classes: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Classes that a hospital has no text of."""
    for column, names in classes.items():
        for title, one in seen[column].at.items():
            known = {text.casefold() for text in one.counts}
            if missing := [name for name in names if name.casefold() not in known]:
                yield f"{title} has no text of class {', '.join(missing)} (column '{column}')"


# --- what is written ------------------------------------------------------------------------------
def _study(
    found: Found,
    columns: _Columns,
    name: str,
    parts: Sequence[Sequence[str]],
    roles: Mapping[str, str],
    counts: Mapping[str, Counter[str]],
    told: Sequence[str],
) -> TextStudy:
    task, more = parts
    texts = [roles[key] for key in ("text", "answer") if key in roles]
    tokens = _tokens(found, texts)
    length = [f"max_length = {room(tokens)}  # tokens of the longest text"]
    if tokens > LONGEST:
        length = [f"max_length = {LONGEST}", "truncate = true  # longer texts lose their ends"]
        told = [*told, f"some texts have more than {LONGEST} tokens (the longest {tokens:,})"]
    gaps = sorted({text for key in roles.values() for text in columns.seen[key].gap_texts})
    missing = [f"missing_values = {toml_text(['', *gaps])}"] if gaps else []
    named = dict(roles) | {
        key: value
        for key, value in (("patient_id", columns.patient), ("split", columns.split))
        if value is not None and not (key == "split" and found.by_files)
    }
    lines = ["[task.columns]", *(f"{key} = {toml_text(value)}" for key, value in named.items())]
    heads = columns.labels if more else []
    left = [name for name in columns.seen if name not in {*named.values(), *heads}]
    told = [*told, *([f"columns that aren't used: {', '.join(left)}"] if left else [])]
    return TextStudy(
        name,
        found.path,
        _hospitals(found, columns),
        [*task, *length, *missing],
        [*lines, *more],
        counts,
        (*found.notes, *told),
    )


def _hospitals(found: Found, columns: _Columns) -> Hospitals:
    if not found.one_set:
        return Hospitals("sites", len(found.shards))
    rows = sum(shard.table.num_rows for shard in found.shards)
    patients = 0
    if columns.patient is not None:
        patients = max(one.distinct for one in columns.seen[columns.patient].at.values())
    if (patients or rows) < 2:
        raise DataError(f"{found.path}: one row: no two hospitals can be made of it")
    return dealt(patients or rows, patients > 0)


def _tokens(found: Found, texts: Sequence[str]) -> int:
    """Of the longest texts, by their letters, with the encoder's marks."""
    tokenizer = encoder.make_tokenizer(encoder.encoder_folder(""))
    longest = 0
    for shard in found.shards:
        for name in texts:
            cells = [one for one in shard.table.column(name).to_pylist() if one]
            some = sorted(cells, key=len, reverse=True)[:_MEASURED]
            words = tokenizer.word_tokens([one.split() for one in some])
            longest = max(longest, *(sum(map(len, one)) for one in words), 0)
    return longest + len(tokenizer.prefix) + len(tokenizer.suffix)
