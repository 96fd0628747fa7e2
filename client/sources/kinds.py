"""Which kinds of sources there are, by ``source``.

A table is made by the model of its kind, so that whatever is wrong with a key is said by that key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import SerializeAsAny, WrapValidator

from wardround.client.sources.fhir.settings import FhirSource
from wardround.client.sources.omop.settings import OmopSource
from wardround.client.sources.pacs.settings import DicomWebSource, DimseSource
from wardround.client.sources.settings import FILE, FileSource, SourceTable
from wardround.client.sources.sql.settings import SqlSource
from wardround.common.settings.key_errors import WrongKey

KINDS: Mapping[str, type[SourceTable]] = {
    FILE: FileSource,
    "sql": SqlSource,
    "fhir": FhirSource,
    "dicomweb": DicomWebSource,
    "dicom": DimseSource,
    "omop": OmopSource,
}
"""By ``source``."""


def _of_kind(value: Any, handler: Callable[[Any], SourceTable]) -> SourceTable:
    """A table as the model of its kind. Raises ValidationError by the keys of that model."""
    if not isinstance(value, dict):
        return value if isinstance(value, SourceTable) else handler(value)
    kind = value.get("source", FILE)
    if not isinstance(kind, str) or kind not in KINDS:
        raise WrongKey("source", f"there is no such kind of source; there are: {', '.join(KINDS)}")
    return KINDS[kind].model_validate(value)


DataSource = Annotated[SerializeAsAny[SourceTable], WrapValidator(_of_kind)]
