"""What becomes of each role of a column, by profile, and of single columns as a person says.

    [columns]
    "Station" = "keep"
    "Verlauf" = "text"

``safe-harbour`` is the list of 45 CFR 164.514(b)(2) (HIPAA): of dates the year stays. ``gdpr``
drops the same identifiers, and keeps what research needs by pseudonyms and shifted dates; such data
are still personal data (GDPR, recital 26).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from wardround.client.deidentify.roles import Role
from wardround.common.config.source import Source, validation_error
from wardround.common.errors import ConfigError
from wardround.common.settings import Table

Action = Literal[
    "keep", "drop", "pseudonym", "shift", "year", "birth-year", "age", "zip3", "area", "text"
]
WORDS: Mapping[str, str] = {
    "keep": "kept as it is",
    "drop": "dropped",
    "pseudonym": "a keyed pseudonym",
    "shift": "shifted by days that are the patient's own",
    "year": "the year",
    "birth-year": "the year of birth; of who may be over 89 none",
    "age": "ages over 89 become 90",
    "zip3": "three digits, 000 where few people live",
    "area": "the first two characters",
    "text": "rules for free text",
}
Profile = Literal["safe-harbour", "gdpr"]
_COMMON: Mapping[Role, Action] = {
    "name": "drop",
    "contact": "drop",
    "address": "drop",
    "identifier": "drop",
    "patient": "pseudonym",
    "age": "age",
    "place": "drop",
    "text": "text",
    "plain": "keep",
}
PROFILES: Mapping[str, Mapping[Role, Action]] = {
    "safe-harbour": {**_COMMON, "birth": "birth-year", "date": "year", "postcode": "zip3"},
    "gdpr": {**_COMMON, "birth": "birth-year", "date": "shift", "postcode": "area"},
}


class Rules(Table):
    """The file that ``--rules`` names."""

    columns: dict[str, Action] = Field({}, max_length=10_000)


def read_rules(path: Path) -> Rules:
    """Raises ConfigError naming file, line, key and mend."""
    try:
        text = path.read_text("utf-8")
        return Rules.model_validate(tomllib.loads(text))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({type(error).__name__})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise validation_error(error, Source(text, path).place, Rules) from None


def action_for(name: str, role: Role, profile: str, rules: Rules) -> Action:
    """What becomes of a column: as the rules say of it, else as the profile of its role."""
    return rules.columns.get(name, PROFILES[profile][role])
