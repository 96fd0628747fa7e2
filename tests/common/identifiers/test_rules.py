"""The rules of identifiers: published numbers, spellings that are one, what holds of any text."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wardround.common.identifiers import RULES, joined, normalise

TEXTS = (
    st.text(max_size=30)
    | st.from_regex(r"[0-9A-Z+ -]{8,16}", fullmatch=True)
    | st.text("ÄäöøßæœłŁIıİ’'-– .aeuo\u0308\u030a", max_size=15)
)
PUBLISHED = {
    "nhs": ["943 476 5919", "401 023 2137"],
    "nir": ["2 95 10 99 126 111 93", "253072B07300470"],
    "bsn": ["111222333", "123456782"],
    "rijksregister": ["85.07.30-033 28", "17 07 30 033 84"],
    "personnummer": ["640823-3234", "811218-9876", "701063-2391"],
    "fodselsnummer": ["15108695088"],
    "hetu": ["131052-308T", "131052A308T"],
    "dni": ["12345678Z", "54362315-K", "X-2482300W"],
    "codice_fiscale": ["RCCMNL83S18D969H", "MRTMTT25D09F205Z"],
    "pesel": ["44051401359", "02070803628"],
    "ahv": ["756.9217.0769.85", "756.1234.5678.97"],
    "svnr": ["1237 010180"],
    "kvnr": ["A123456780"],
    "luhn": ["4111 1111 1111 1111", "79927398713"],
    "mod97": ["79444"],
}
"""Examples of the issuing bodies, of ISO 7064 and of python-stdnum's documentation."""
CHECKED = sorted(PUBLISHED)


def form(rule: str, text: str) -> str | None:
    (found,) = normalise(rule, [text])  # type: ignore[arg-type]
    return None if found is None else found.decode()


@pytest.mark.parametrize("rule", CHECKED)
def test_published_numbers_have_a_form(rule: str) -> None:
    assert None not in [form(rule, text) for text in PUBLISHED[rule]]


@pytest.mark.parametrize("rule", CHECKED)
def test_a_single_wrong_digit_is_found(rule: str) -> None:
    """What each check promises: no digit of a published number may be another one."""
    for text in PUBLISHED[rule]:
        number = form(rule, text)
        assert number is not None
        for place, old in enumerate(number):
            others = set("0123456789") - {old} if old.isdigit() else ()
            for new in others:
                changed = number[:place] + new + number[place + 1 :]
                if rule == "rijksregister" or (rule == "nhs" and len(set(changed)) == 1):
                    continue  # two keys are right: of the numbers before 2000 and after
                assert form(rule, changed) is None, (number, changed)


@given(text=TEXTS)
@example("0" * 10)
@example("Ǆ")
@example("aae")
@example("ŉ2A\u212a")
@example("\ufdfa" * 30)
def test_the_form_of_a_form_is_itself(text: str) -> None:
    for rule in RULES:
        found = form(rule, text)
        assert found is None or form(rule, found) == found, rule


@pytest.mark.parametrize("rule", sorted(RULES))
def test_examples_of_the_documents_are_right(rule: str) -> None:
    text, expected = RULES[rule].example  # type: ignore[index]
    assert form(rule, text) == expected


SAME = {
    "name": [
        ("Müller", "MUELLER", "Muller", "mu\u0308ller", " Müller "),
        ("O'Brien", "O’Brien", "OBrien", "o brien", "O\u02bcBrien"),
        ("محمد", "مُحَمَّد", "محـمد"),
        ("Smith-Jones", "Smith Jones", "SMITH‐JONES"),
        ("van der Berg", "Van Der Berg", "vanderberg"),
        ("Åse", "Aase", "Ase", "A\u030ase"),
        ("Łukasz", "lukasz"),
        ("Strauß", "STRAUSS", "strauẞ".replace("ẞ", "ß")),
        ("Sørensen", "Soerensen", "Sorensen"),
        ("İbrahim", "ibrahim", "Ibrahim"),
        ("Жуков", "жуков"),
    ],
    "date": [("1975-03-12", "1975-03-12 00:00:00", "1975-03-12T00:00")],
    "postcode": [("SW1A 1AA", "sw1a1aa", "SW1A-1AA"), ("02139-4307", "02139")],
    "number": [("0012 34", "1234", "12-34", "1234.0", "١٢٣٤")],
    "exact": [("A 1", " A  1", "A\u00a01"), ("12", "12.0")],
    "nhs": [("943 476 5919", "943-476-5919", "9434765919.0", "９４３４７６５９１９")],
    "nir": [("2 55 08 14 168 025 38", "2550814168025")],
    "bsn": [("010000008", "10000008"), ("1112.22.333", "111222333")],
    "personnummer": [("19811218-9876", "8112189876", "811218+9876")],
    "dni": [("00000014Z", "14-Z", "14z")],
}


@pytest.mark.parametrize(
    ("rule", "texts"), [(rule, texts) for rule, sets in SAME.items() for texts in sets]
)
def test_spellings_of_one_are_one(rule: str, texts: tuple[str, ...]) -> None:
    found = [form(rule, text) for text in texts]
    assert found[0] is not None and len(set(found)) == 1, found


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F), max_size=20))
def test_capitals_and_composed_letters_never_make_another_name(text: str) -> None:
    found = form("name", text)
    others = [text.upper(), text.lower(), text.title(), f" {text}-"]
    others += [unicodedata.normalize(way, text) for way in ("NFC", "NFD", "NFKC", "NFKD")]
    assert {form("name", other) for other in others} == {found}


DIFFERENT = {
    "name": ("Anna", "Ana", "Hanna", "Anne"),
    "date": ("1975-03-12", "1975-12-03", "1976-03-12"),
    "postcode": ("10115", "01115", "1115"),
    "exact": ("a", "A", "02", "2"),
    "hetu": ("131052-308T", "131052A308T", "131052+308T"),
}


@pytest.mark.parametrize("rule", DIFFERENT)
def test_others_stay_others(rule: str) -> None:
    found = [form(rule, text) for text in DIFFERENT[rule]]
    assert None not in found and len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("date", "1975-02-30"),
        ("date", "12.03.1975"),
        ("date", "1975-03-12 23:00"),
        ("name", "1234"),
        ("number", "12a"),
        ("nhs", "9434765918"),
        ("nhs", "0000000000"),
        ("postcode", "--"),
        ("exact", "x" * 201),
        ("name", "\U0001f600"),
        ("exact", "\U0001f600"),
        ("ssn", "000-12-3456"),
        ("ssn", "912-12-3456"),
    ],
)
def test_what_is_none_has_no_form(rule: str, text: str) -> None:
    assert form(rule, text) is None


@given(st.lists(st.lists(st.binary(max_size=5), min_size=3, max_size=3), min_size=2, max_size=8))
def test_keys_are_equal_only_where_every_form_is(rows: list[list[bytes]]) -> None:
    keys = [joined(row) for row in rows]
    for (one, key), (other, same) in pairwise(zip(rows, keys, strict=True)):
        assert (key == same) == (one == other)


def test_a_row_that_lacks_one_has_no_key() -> None:
    assert joined([b"a", None]) is None
