"""What names of columns and texts of cells often mean, as short written lists: nothing is learned
or guessed beyond them."""

from __future__ import annotations

import re

from wardround.common.text import composed

GAP_WORDS = frozenset(
    ". .. - -- --- ? n/a #n/a n.a. na nan nat null nil unk unknown missing k.a. unbekannt fehlt "
    "fehlend inconnu desconocido sconosciuto #null! #div/0! #value! #wert!".split()
) | {"not available", "not known", "keine angabe", "k. a."}
"""Texts, in small letters, that often mean 'missing' among others. 'none' is none of them."""
_PATIENT = frozenset(
    "patient patients pat patid patientid patnr patno patientnr patientno patientnumber subject "
    "subjectid subj mrn pid person personid participant participantid fallnr fallnummer "
    "patientennummer patientenid usubjid".split()
)
_IDENTIFIER = frozenset(
    "id ids nr no num number nummer uid uuid guid key code identifier index row rownum rowid "
    "record recordid case caseid caseno accession unnamed lfdnr lfd".split()
)
_SITES = frozenset(
    "site hospital hosp centre center clinic clinique klinik krankenhaus spital hôpital hopital "
    "institution institute facility zentrum centro ospedale".split()
)
_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def name_words(name: str) -> list[str]:
    """The words of a column's name, in small letters: 'PatNr', 'pat_nr' and 'pat nr' are alike.

    >>> name_words("PatNr"), name_words("date of birth")
    (['pat', 'nr'], ['date', 'of', 'birth'])
    """
    return [word.casefold() for word in _WORD.findall(_HUMP.sub(" ", composed(name)))]


def says_patient(name: str) -> bool:
    """Whether the name is that of a patient's number ('patient', 'pat_nr', 'MRN')."""
    words = name_words(name)
    if not words or "".join(words) in _PATIENT:
        return bool(words)
    return words[0] in _PATIENT and words[-1] in _IDENTIFIER


def says_identifier(name: str) -> bool:
    """Whether the name is that of some number of a record ('id', 'case_no', 'lfd. Nr.')."""
    words = name_words(name)
    return bool(words) and (says_patient(name) or words[-1] in _IDENTIFIER or words[0] == "id")


def says_site(name: str) -> bool:
    """Whether the name is that of a hospital."""
    return not _SITES.isdisjoint(name_words(name))
