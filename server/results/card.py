"""A card that is written after the run: beside the model, or into its folder, signed anew."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from wardround.common.card.text import card_text, unwritten
from wardround.common.config.load import Config
from wardround.common.durable.files import write_atomically, writing
from wardround.common.errors import ConfigError, ModelRefused
from wardround.common.model_folder.listed import Listed, read_list
from wardround.common.model_folder.write import seal_folder
from wardround.common.run.directory import RunDirectory
from wardround.common.settings import CardTable
from wardround.common.trust.credentials import read_credentials
from wardround.server.results.finish import CARD, facts_of

Written = tuple[Path, list[str]]
"""Where a card is, and the keys of what nobody has written."""


def read_answers(path: Path, before: CardTable) -> CardTable:
    """Answers of a file, over those of the run's own settings. Raises ConfigError by key."""
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({type(error).__name__})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    answers = found.get("card", found)
    try:
        CardTable.model_validate(answers)
        return CardTable.model_validate(before.model_dump(exclude_unset=True) | answers)
    except (ValidationError, TypeError) as error:
        if not isinstance(error, ValidationError):
            raise ConfigError(f"{path}: [card] is a table of texts") from None
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "card"
        known = f"; it has: {', '.join(CardTable.model_fields)}"
        extra = known if first["type"] == "extra_forbidden" else ""
        raise ConfigError(f"{path}: card.{key}: {first['msg'].lower()}{extra}") from None


def write_card(run: RunDirectory, config: Config, said: CardTable, path: Path) -> Written:
    """Write the card of a complete run there. Raises ModelRefused, RunDirectoryError."""
    text = card_text(facts_of(run, config), said)
    with writing(path, "write it again"):
        write_atomically(path, text.encode())
    return path, unwritten(said)


def renew_card(run: RunDirectory, config: Config, said: CardTable, server: Path) -> Written:
    """Put the card into the run's model folder, and list and sign that again: it gets another
    digest. ``server``: the server's folder.

    Raises ModelRefused unless that server signed the model before; ProvisionError.
    """
    identity = read_credentials(server, "server").identity
    listed = Listed.read(read_list(run.model), str(run.model))
    listed.check_files(run.model)
    listed.check(str(run.model), [identity.public])
    if (run.path / "results").is_dir():
        raise ModelRefused(
            "its results are at the hospitals already, with the card of then",
            who=str(run.path),
            mend="write the card beside the model: leave out --sign",
        )
    written = write_card(run, config, said, run.model / CARD)
    digest = seal_folder(
        run.model,
        run=listed.run,
        round=listed.round,
        identity=identity,
        network=listed.network,
        study=listed.study,
        valid_days=said.valid_days,
    )
    run.update(model_digest=digest)
    return written
