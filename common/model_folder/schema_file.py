"""``schema.json`` of a model folder, or of an export: read without torch."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from wardround.common.durable.versioned import Format
from wardround.common.errors import ModelRefused
from wardround.common.tasks.schema import Schema

CONFIG, SCHEMA = "config.toml", "schema.json"
SCHEMA_FORMAT = Format("model schema", "have the model's folder made again")


def read_schema(folder: Path) -> Schema:
    """A folder's ``schema.json``. Raises ModelRefused."""
    path = folder / SCHEMA
    try:
        stored = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        raise ModelRefused("can't be read", who=str(path), mend=SCHEMA_FORMAT.mend) from None
    values = SCHEMA_FORMAT.read(stored, ModelRefused, str(path))
    try:
        return Schema.model_validate_json(json.dumps(values))
    except ValidationError:
        raise ModelRefused("holds no schema", who=str(path), mend=SCHEMA_FORMAT.mend) from None
