"""A mistake is told with the line that has it, whatever strings and arrays stand above."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.client.site.policy import load_site
from wardround.common.config.load import parse_config
from wardround.common.config.source import key_lines
from wardround.common.errors import ConfigError

BEFORE = '''[federation]
rounds = 3
name = "x"

[task.columns]
target = """
[training]
lr = 0.1
'''


def test_a_header_inside_a_string_is_none() -> None:
    text = BEFORE + 'y"""\n\n[training]\nlr = 0.1\nzzz = 1\n'
    with pytest.raises(ConfigError, match=r"federation\.toml:13: training\.zzz: unknown key"):
        parse_config(text, path=Path("federation.toml"))


def test_a_hospitals_own_file_is_read_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text('contact = """\nzzz = 1\n"""\nzzz = 2\n')
    with pytest.raises(ConfigError, match=r"site\.toml:(1: contact|4: zzz): unknown key"):
        load_site(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# [a]\n\n", {}),
        ("a = 1\r\nb = 2\r\n", {"a": 1, "b": 2}),
        ("a = '\u2028'\nb = '\x85'\nc = 1", {"a": 1, "b": 2, "c": 3}),
        ("a.b = 1\n[c]\nd = 2\n[a.e]", {"a": 1, "a.b": 1, "c": 2, "c.d": 3, "a.e": 4}),
        ("[a.b]\n[a]\n", {"a.b": 1, "a": 2}),
        ("[ 'a b' . \"c\\u0064\" ]\nx=1", {"a b": 1, "a b.cd": 1, "a b.cd.x": 2}),
        ("a = {b = 1, c.d = {e = 2}}", dict.fromkeys(["a", "a.b", "a.c", "a.c.d", "a.c.d.e"], 1)),
        ("a = [ # ]\n'b = 1',\n]\nb = 2", {"a": 1, "b": 4}),
        ("a = '''\n'''\nb = 2", {"a": 1, "b": 3}),
        ('a = """\\"""\n[c]"""\nb = 2', {"a": 1, "b": 3}),
        (
            "[[a]]\nb = 1\n[[a.c]]\n[[a.c]]\nd = 1\n[[a]]\n[a.e]\nf = 1",
            {
                **{"a": 1, "a.0": 1, "a.0.b": 2, "a.0.c": 3, "a.0.c.0": 3, "a.0.c.1": 4},
                **{"a.0.c.1.d": 5, "a.1": 6, "a.1.e": 7, "a.1.e.f": 8},
            },
        ),
    ],
)
def test_lines_of_keys(text: str, expected: dict[str, int]) -> None:
    assert key_lines(text) == expected


VALUES = [
    "1",
    "1979-05-27T07:32:00Z",
    '"[t] # \\" = 1"',
    '\'k = """\'',
    '"""\n[t]\nk = 1 # "]\n\'\'\'\n"""',
    "'''\n\n\"\"\" = [\n]'''",
    '"""\\\n   x\\"""\n"""',
    "[ # [t]\n  1, 2,\n\n  3 # ]\n]",
    '["]", \'\'\'\n]\n\'\'\', """\n#""" ]  # "',
    "[[1, 2],\n[3]]",
    "{}",
    "{ i = 1, \"j k\".l = '''\n[t]''' }",
]
NAMES = ["k{}", '"k {}"', "'k={}'", "d.k{}", ' d . "#{}" ', '"[{}]".k']
HEADERS = ["[t{}]", '[ t.u{} ] # "', "['[{}'.x]", "[[r]]", "[r.s{}]", "[[ r.v ]]"]


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(VALUES + HEADERS)), max_size=12))
def test_every_key_that_the_parser_reads_has_the_line_that_it_begins_in(parts) -> None:
    text, expected = "", {}
    for number, (pick, part) in enumerate(parts):
        if part in HEADERS:
            part = part.format(number)
        else:
            part = f"{NAMES[pick % len(NAMES)].format(number)}\t= {part}"
        part += ["\n", "  # k = 1 ]\n", "\n\n", "\r\n"][pick % 4]
        try:
            found = names(tomllib.loads(text + part), "")
        except tomllib.TOMLDecodeError:  # e.g. a table that is an array by now
            continue
        line = text.count("\n") + 1
        expected |= {name: line for name in found if name not in expected}
        text += part
    assert key_lines(text) == expected


def names(value: Any, above: str) -> Iterator[str]:
    """Dotted names of all tables and keys, with numbers in arrays of tables."""
    pairs = enumerate(value) if isinstance(value, list) else value.items()
    for key, inner in pairs:
        name = f"{above}.{key}" if above else str(key)
        yield name
        if isinstance(inner, dict) or (isinstance(inner, list) and isinstance(inner[0], dict)):
            yield from names(inner, name)
