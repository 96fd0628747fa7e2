"""Golden bytes: the wire form of every message of the federation, as tests/vectors/messages.json
has it.

    python -m tests.protocol.golden              hold this checkout against the file
    python -m tests.protocol.golden --freeze     write the file

After a deliberate change of what goes over the wire (and of PROTOCOL), write it again, and look at
what has changed in it. In the file

    lines       : what stands in messages (``capture.py``), and in ``made.py``'s entries, each once
    made        : entries of ``made.py``, as numbers of lines
    forms       : messages, as numbers of lines
    federations : messages in their order: "type direction: hospital form, hospital form ..."
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.protocol.capture import Crossed
from tests.protocol.made import made
from tests.protocol.scenarios import run, scenarios

FROZEN = Path(__file__).parent.parent / "vectors" / "messages.json"


class Golden:
    """The file's content."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    @classmethod
    def read(cls) -> Golden:
        """The file's."""
        return cls(json.loads(FROZEN.read_text("utf-8")))

    def made(self, name: str) -> list[str]:
        """An entry of ``made.py``; empty if there is none of that name."""
        return self._lines(self._content["made"].get(name, ""))

    def messages(self, name: str) -> list[Crossed]:
        """A federation's messages; none if there is none of that name."""
        messages = []
        for row in self._content["federations"].get(name, []):
            head, _, rest = row.partition(": ")
            kind, _, direction = head.rpartition(" ")
            for part in rest.split(", "):
                hospital, _, form = part.rpartition(" ")
                lines = self._lines(self._content["forms"][int(form)])
                messages.append(Crossed(kind, direction, hospital, lines))
        return messages

    @property
    def names(self) -> set[str]:
        """Of all entries and federations."""
        return {*self._content["made"], *self._content["federations"]}

    def _lines(self, numbers: str) -> list[str]:
        return [self._content["lines"][int(number)] for number in numbers.split()]


def packed(
    entries: Mapping[str, Sequence[str]], federations: Mapping[str, Sequence[Crossed]]
) -> dict[str, Any]:
    """All that stands in the file."""
    known: dict[str, int] = {}
    forms: dict[str, int] = {}
    found: dict[str, list[str]] = {}

    def numbers(lines: Sequence[str]) -> str:
        return " ".join(str(known.setdefault(line, len(known))) for line in lines)

    for name, messages in federations.items():
        rows = found[name] = []
        for (kind, direction), some in itertools.groupby(messages, lambda x: (x.type, x.direction)):
            who = [f"{x.hospital} {forms.setdefault(numbers(x.lines), len(forms))}" for x in some]
            rows.append(f"{kind} {direction}: {', '.join(who)}")
    made_of = {name: numbers(lines) for name, lines in entries.items()}
    return {"lines": list(known), "made": made_of, "forms": list(forms), "federations": found}


def differences(expected: Sequence[Crossed], found: Sequence[Crossed]) -> Iterator[str]:
    """What differs, message by message, each by its record and key."""
    for number, (one, other) in enumerate(zip(expected, found, strict=False), 1):
        if one.head != other.head:
            yield f"message {number}: {one.head} was expected, {other.head} came"
            return
        for line in changed(one.lines, other.lines):
            yield f"message {number}, {one.head}: {line}"
    if len(expected) != len(found):
        yield f"{len(expected)} messages were expected, {len(found)} came"


def changed(expected: Sequence[str], found: Sequence[str]) -> Iterator[str]:
    """Lines that differ; where they are the same in another order, that."""
    yield from (f"lost  {line}" for line in expected if line not in found)
    yield from (f"new   {line}" for line in found if line not in expected)
    before, after = ([x for x in lines if not x.startswith("=")] for lines in (expected, found))
    if before != after and sorted(before) == sorted(after):
        yield f"another order: {', '.join(line.partition(' ')[0] for line in after)}"
    elif list(expected) != list(found) and set(expected) == set(found):
        yield "lines come more or less often"


def captured(folder: Path, names: Iterable[str]) -> dict[str, list[Crossed]]:
    """The messages of these federations, run now below ``folder``."""
    known = scenarios()
    return {name: run(known[name], folder / str(i)) for i, name in enumerate(names)}


def freeze(folder: Path) -> None:
    """Write the file; its lines are lines of text, so that a change shows in its place."""
    content = packed(made(), captured(folder, scenarios()))
    FROZEN.write_text(json.dumps(content, indent=0, ensure_ascii=False) + "\n", "utf-8")


def compare(folder: Path) -> Iterator[str]:
    """What differs from the file."""
    golden, entries = Golden.read(), made()
    for name, messages in captured(folder, scenarios()).items():
        yield from (f"{name}: {line}" for line in differences(golden.messages(name), messages))
    for name, lines in entries.items():
        yield from (f"{name}: {line}" for line in changed(golden.made(name), lines))
    yield from (f"{name}: gone" for name in sorted(golden.names - {*entries, *scenarios()}))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.protocol.golden",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--freeze", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="golden-") as place:
        if given.freeze:
            freeze(Path(place))
            print(f"wrote {FROZEN}")
            return 0
        apart = list(compare(Path(place)))
    for line in apart:
        print(line)
    print(f"{len(apart)} differences" if apart else "all messages are the same")
    return int(bool(apart))


if __name__ == "__main__":
    sys.exit(main())
