"""Concepts of clinical records: ``SYSTEM:CODE``, such as ``LOINC:2160-0``, and where each is found.

A study names what it asks about in as many systems as it likes; a hospital answers by those that
its records have. ``OMOP:3016723`` is a concept id of the OHDSI vocabularies.
"""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

OMOP = "OMOP"


class System(NamedTuple):
    """Of codes. ``fhir``: its URLs, the present one first; ``omop``: its vocabularies' ids."""

    fhir: tuple[str, ...]
    omop: tuple[str, ...]
    ordered: bool = False
    """Longer codes are parts of shorter ones, so that ``E11*`` has a meaning."""


SYSTEMS: dict[str, System] = {
    "LOINC": System(("http://loinc.org",), ("LOINC",)),
    "SNOMED": System(("http://snomed.info/sct",), ("SNOMED",)),
    "ICD10": System(("http://hl7.org/fhir/sid/icd-10",), ("ICD10",), True),
    "ICD10CM": System(("http://hl7.org/fhir/sid/icd-10-cm",), ("ICD10CM",), True),
    "ICD10GM": System(
        (
            "http://fhir.de/CodeSystem/bfarm/icd-10-gm",
            "http://fhir.de/CodeSystem/dimdi/icd-10-gm",
        ),
        ("ICD10GM",),
        True,
    ),
    "ICD10PCS": System(
        (
            "http://www.cms.gov/Medicare/Coding/ICD10",
            "http://hl7.org/fhir/sid/icd-10-pcs",
        ),
        ("ICD10PCS",),
        True,
    ),
    "ICD9CM": System(("http://hl7.org/fhir/sid/icd-9-cm",), ("ICD9CM",), True),
    "RXNORM": System(
        ("http://www.nlm.nih.gov/research/umls/rxnorm",), ("RxNorm", "RxNorm Extension")
    ),
    "ATC": System(
        ("http://www.whocc.no/atc", "http://fhir.de/CodeSystem/bfarm/atc"), ("ATC",), True
    ),
    "NDC": System(("http://hl7.org/fhir/sid/ndc",), ("NDC",)),
    "CPT4": System(("http://www.ama-assn.org/go/cpt",), ("CPT4",)),
    "OPS": System(
        ("http://fhir.de/CodeSystem/bfarm/ops", "http://fhir.de/CodeSystem/dimdi/ops"),
        ("OPS",),
        True,
    ),
    "ENCOUNTER": System(
        (
            "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "http://hl7.org/fhir/v3/ActCode",
        ),
        (),
    ),
    OMOP: System((), ()),
}
"""``ENCOUNTER``: FHIR's classes of encounters (``IMP`` inpatient, ``AMB`` ambulatory, ``EMER``
emergency), which OMOP has as concepts of its own: ``OMOP:9201``, ``OMOP:9202``, ``OMOP:9203``."""

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+^-]{0,63}\*?")


class Concept(NamedTuple):
    """A code of a system; with ``prefix`` all that begin so, of OMOP it and its descendants."""

    system: str
    code: str
    prefix: bool = False

    @classmethod
    def read(cls, text: str) -> Concept:
        """Raises ValueError for what is no concept.

        >>> Concept.read("icd10:E11*")
        Concept(system='ICD10', code='E11', prefix=True)
        """
        system, colon, code = text.strip().partition(":")
        system = system.upper()
        if not colon or not _CODE.fullmatch(code):
            raise ValueError(f"{text!r:.80} is no concept; write SYSTEM:CODE, such as LOINC:2160-0")
        if system not in SYSTEMS:
            raise ValueError(f"{system!r:.40} is no known system of codes: {', '.join(SYSTEMS)}")
        prefix = code.endswith("*")
        if system == OMOP:
            if not code.removesuffix("*").isdecimal() or int(code.removesuffix("*")) >= 2**31:
                raise ValueError(f"{text!r:.80}: a concept id of OMOP is a whole number")
        elif prefix and not SYSTEMS[system].ordered:
            some = ", ".join(name for name, one in SYSTEMS.items() if one.ordered)
            raise ValueError(f"{text!r:.80}: * is for codes that are parts of others: {some}")
        return cls(system, code.removesuffix("*"), prefix)

    @property
    def text(self) -> str:
        """As it stands in the settings."""
        return f"{self.system}:{self.code}{'*' if self.prefix else ''}"

    def covers(self, code: str) -> bool:
        """Whether a record's code of the same system is meant."""
        begins = self.prefix and self.system != OMOP  # a descendant's id says nothing of it
        return code.startswith(self.code) if begins else code == self.code


def _distinct(texts: list[str]) -> list[str]:
    found = [Concept.read(text).text for text in texts]
    for position, one in enumerate(found):
        if one in found[:position]:
            raise ValueError(f"'{one}' stands there twice; name it once")
    return found


Concepts = Annotated[list[str], Field(max_length=5000), AfterValidator(_distinct)]
"""Texts of concepts, all different, each in the one way that ``Concept.text`` writes it."""
