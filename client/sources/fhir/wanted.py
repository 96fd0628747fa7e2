"""Which resources a cohort asks for: from codings to variables, and to categories."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wardround.client.sources.fhir.settings import Kind
from wardround.common.errors import DataError
from wardround.common.settings.cohort import CohortTable
from wardround.common.settings.concepts import SYSTEMS, Concept

INDEX = -1
"""The target that is the index event; others are variables, by their place."""
KIND_OF: Mapping[str, Kind] = {
    "visit": "Encounter",
    "condition": "Condition",
    "procedure": "Procedure",
    "measurement": "Observation",
    "observation": "Observation",
    "drug": "MedicationRequest",
}
_FEW = 10
_ESCAPED = rb"\\(?:/|u00[2-7])"
"""How else JSON can write the characters of a code, which are ASCII."""


class Codes:
    """From codings to numbers: targets, or places of categories."""

    def __init__(self) -> None:
        self._exact: dict[tuple[Any, Any], list[int]] = {}
        self._longer: dict[Any, list[tuple[str, int]]] = {}
        self._texts: set[str] = set()

    def add(self, concept: Concept, number: int, own: Mapping[str, str]) -> bool:
        """Whether FHIR has a system for it. ``own``: a hospital's codes, 'URL|CODE', by concept."""
        for key, text in own.items():
            if concept.covers(Concept.read(text).code) and text.startswith(f"{concept.system}:"):
                url, _, code = key.partition("|")
                self._exact.setdefault((url, code), []).append(number)
                self._texts.add(code)
        for url in SYSTEMS[concept.system].fhir:
            if concept.prefix:
                self._longer.setdefault(url, []).append((concept.code, number))
            else:
                self._exact.setdefault((url, concept.code), []).append(number)
            self._texts.add(concept.code)
        return bool(SYSTEMS[concept.system].fhir)

    def of(self, codings: Iterable[Any]) -> set[int]:
        """Numbers of all codings of one concept, as JSON has them."""
        found: set[int] = set()
        for coding in codings:
            url, code = coding.get("system"), coding.get("code")
            found.update(self._exact.get((url, code), ()))
            for start, number in self._longer.get(url, ()):
                if code.startswith(start):
                    found.add(number)
        return found

    def may_have(self, more: Iterable[str] = ()) -> Callable[[bytes], bool]:
        """Whether a line of JSON can have one of the codes, or of further texts: it's cheap to ask,
        and never False where it has, however the line writes it."""
        texts = sorted({one.encode() for one in (*self._texts, *more)})
        if any(b'"' in one or b"\\" in one for one in texts):
            return lambda line: True
        starts = [b'"' + one for one in texts] if not more else texts
        escaped = re.compile(_ESCAPED if all(one.isascii() for one in texts) else rb"\\[/u]").search
        if len(starts) > _FEW:
            found = re.compile(b"|".join(map(re.escape, starts))).search
            return lambda line: found(line) is not None or escaped(line) is not None

        def may(line: bytes) -> bool:
            for one in starts:  # faster than one expression of a few
                if one in line:
                    return True
            return escaped(line) is not None

        return may


class Wanted:
    """What a cohort asks of a FHIR export.

    kinds : of resources, besides Patient
    """

    def __init__(self, cohort: CohortTable, own: Mapping[str, str], called: str) -> None:
        self.cohort = cohort
        self.names = list(cohort.variables)
        self.variables = list(cohort.variables.values())
        self.index_kind = KIND_OF[cohort.index.event]
        self._own, self._called = own, called
        self._codes: dict[str, Codes] = {}
        self._every: dict[str, set[int]] = {}
        self._categories: dict[int, Codes] = {}
        self._add(self.index_kind, cohort.index.wanted, INDEX, "cohort.index")
        for number, (name, one) in enumerate(cohort.variables.items()):
            if one.of in KIND_OF:
                self._add(KIND_OF[one.of], one.wanted, number, f"cohort.variables.{name}")
            if one.categories:
                self._categories[number] = self._category_codes(name)
        self.kinds = [kind for kind in dict.fromkeys(KIND_OF.values()) if kind in self._codes]

    def targets(self, kind: Kind, codings: Iterable[Any]) -> set[int]:
        """Which targets a resource with these codings is for."""
        return self._codes[kind].of(codings) | self._every[kind]

    def category(self, number: int, codings: Iterable[Any]) -> int | None:
        """The category, by its place, of a variable's value; the one that is named first."""
        return min(self._categories[number].of(codings), default=None)

    def may_concern(self, kind: Kind, more: Iterable[str] = ()) -> Callable[[bytes], bool] | None:
        """Whether a line can be of a target; None where every one is."""
        return None if self._every[kind] else self._codes[kind].may_have(more)

    def _add(self, kind: Kind, concepts: tuple[Concept, ...], number: int, key: str) -> None:
        codes = self._codes.setdefault(kind, Codes())
        every = self._every.setdefault(kind, set())
        known = [codes.add(one, number, self._own) for one in concepts]
        if not concepts:
            every.add(number)
        elif not any(known) and not self._has_own(concepts):
            raise self._unanswered(key)

    def _has_own(self, concepts: Iterable[Concept]) -> bool:
        texts = {text.upper() for text in self._own.values()}
        return any(one.text.upper() in texts for one in concepts)

    def _category_codes(self, name: str) -> Codes:
        codes = Codes()
        for place, concepts in enumerate(self.cohort.variables[name].categories.values()):
            wanted = [Concept.read(one) for one in concepts]
            known = [codes.add(one, place, self._own) for one in wanted]
            if not any(known) and not self._has_own(wanted):
                raise self._unanswered(f"cohort.variables.{name}.categories")
        return codes

    def _unanswered(self, key: str) -> DataError:
        known = ", ".join(name for name, system in SYSTEMS.items() if system.fhir)
        return DataError(
            f"{self._called}: {key} has no concept in a system that FHIR has",
            mend=f"name one of {known}, or map an own code to it under codes",
        )
