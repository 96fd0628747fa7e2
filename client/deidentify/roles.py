"""What a column is, as far as de-identification goes: by its name, by what its cells look like, by
how many values it has. Short written lists; whatever they miss a person says in the rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from wardround.common.tasks.data.profile.column import ColumnProfile
from wardround.common.tasks.data.profile.words import name_words, says_identifier, says_patient

Role = Literal[
    "name",
    "contact",
    "address",
    "identifier",
    "patient",
    "birth",
    "date",
    "age",
    "postcode",
    "place",
    "text",
    "plain",
]
ROLES: tuple[str, ...] = get_args(Role)
_NAMES: Mapping[Role, frozenset[str]] = {
    "birth": frozenset(
        "birth born dob birthdate birthday geburtsdatum geboren gebdat gebdatum "
        "naissance nacimiento nascita".split()
    ),
    "contact": frozenset(
        "phone telephone tel mobile cell fax email mail url web website ip telefon "
        "handy mobil telefono".split()
    ),
    "address": frozenset(
        "address street addr strasse straße adresse anschrift rue calle via hausnummer".split()
    ),
    "postcode": frozenset("zip zipcode postcode postal postalcode plz postleitzahl cap cp".split()),
    "place": frozenset(
        "city town village county district municipality ort stadt wohnort gemeinde "
        "ville ciudad citta birthplace geburtsort".split()
    ),
    "identifier": frozenset(
        "ssn nhs ahv insurance versicherung versichertennummer account konto iban "
        "licence license passport serial device accession plate "
        "kennzeichen".split()
    ),
    "age": frozenset("age alter edad eta âge".split()),
    "text": frozenset(
        "note notes comment comments remark remarks text freetext report befund "
        "bemerkung bemerkungen kommentar anamnese history narrative".split()
    ),
}
_PERSON = frozenset(
    "name surname lastname firstname forename givenname familyname fullname nachname "
    "vorname familienname mother father physician doctor surgeon nurse consultant clinician gp "
    "arzt hausarzt oberarzt chefarzt behandler einweiser zuweiser operateur "
    "angehörige kontaktperson medecin médecin medico médico "
    "contactperson nom prenom prénom nombre apellido cognome".split()
)
_NOT_PERSON = frozenset(
    "drug test lab file hospital site ward unit study device product variable medication".split()
)
"""A column called 'drug_name' is no person's."""
_FORMS: tuple[tuple[Role, str], ...] = (
    (
        "name",
        r"^((?i:dr|prof|med|mrs?|ms|herrn?|frau|mme|madame|monsieur|schwester)\.?\s+)+"
        r"((?i:von|van|de)\s+)?\p{Lu}[\p{L}'’-]+(\s+\p{Lu}[\p{L}'’-]+)?$",
    ),
    ("contact", r"^[\w.+-]+@[\w-]+(\.[\w-]+)+$"),
    ("contact", r"^(https?://|www\.)\S+$"),
    ("contact", r"^\+?[0-9]{0,4}[ (]?[0-9() /-]{7,}[0-9]$"),
    ("contact", r"^([0-9]{1,3}\.){3}[0-9]{1,3}$"),
    ("identifier", r"^[0-9]{3}-[0-9]{2}-[0-9]{4}$"),
)
_MOSTLY = 0.5
_LONG = 25


def role_of(profile: ColumnProfile, column: pa.ChunkedArray, patient: str | None) -> Role:
    """The role of a column.

    patient : name of the column that says whose a row is, if it was named
    """
    name = profile.name
    if name == patient or (patient is None and says_patient(name)):
        return "patient"
    words = set(name_words(name)) | {"".join(name_words(name))}
    for role, known in _NAMES.items():
        if words & known and not (role == "age" and profile.kind == "date"):
            return role
    if words & _PERSON and not words & _NOT_PERSON:
        return "name"
    if profile.kind == "date":
        return "date"
    if profile.kind == "identifier" or says_identifier(name):
        return "identifier"
    if _is_text(column):
        return _by_form(column) or ("text" if _is_prose(profile, column) else "plain")
    return "plain"


def _is_text(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _by_form(column: pa.ChunkedArray) -> Role | None:
    """What most of its cells look like."""
    present = column.drop_null()
    if not len(present):
        return None
    for role, form in _FORMS:
        if pc.mean(pc.match_substring_regex(present, form)).as_py() > _MOSTLY:
            return role
    return None


def _is_prose(profile: ColumnProfile, column: pa.ChunkedArray) -> bool:
    """Whether a column holds sentences, or texts that too few rows share to be categories."""
    present = column.drop_null()
    longest = pc.max(pc.utf8_length(present)).as_py() or 0
    spaced = re.compile(r"\s")
    if profile.kind == "text":
        return True
    return longest > _LONG and any(spaced.search(one) for one in present.slice(0, 100).to_pylist())
