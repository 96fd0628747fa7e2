"""Names that no rule finds, by a model that tags them: of a run of the text task, trained on
sentences with tags (``docs/text.md``)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from wardround.client.deidentify.free_text import Finder
from wardround.common.config.load import load_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError
from wardround.common.model.saved import SavedModel
from wardround.common.run.directory import RunDirectory
from wardround.common.settings import is_built_in

_WORD = re.compile(r"\w+|[^\w\s]")
_AT_ONCE = 64
_MOST_WORDS = 400


def finder_of(run: Path) -> Finder:
    """What finds spans by the model of a run. Raises WardroundError where it is none of the text
    task's, or its files aren't here."""
    from wardround.common.tasks.text.encoder import encoder_folder, make_tokenizer
    from wardround.common.tasks.text.iob import Sentence, tag_names
    from wardround.common.tasks.text.rows import IGNORED
    from wardround.common.tasks.text.task import TextTask
    from wardround.common.tasks.text.tokenise import sentence_rows

    directory = RunDirectory(run)
    config = load_config(directory.config_path)
    # a folder that came from elsewhere, as results do, may name code: none of it is imported
    task = make_task(config) if is_built_in(config.task.name) else None
    if not isinstance(task, TextTask) or not task.tagging:
        raise ConfigError(f"{run}: is no run of a text task that tags words (task.entities)")
    model = SavedModel(directory.model, task, config.federation.seed).load()
    options, names = task.options, tag_names(task.options.entities)
    tokenizer = make_tokenizer(encoder_folder(options.encoder))

    def tags_of(sentences: list[list[str]]) -> list[int]:
        """The tag of each word of all sentences, in order."""
        made = [Sentence(words, [0] * len(words), 1, None) for words in sentences]
        owner = np.zeros(len(made), dtype=np.int64)
        rows = sentence_rows(made, [run], owner, None, options, tokenizer)
        found: list[int] = []
        for start in range(0, len(rows), _AT_ONCE):
            tokens = torch.from_numpy(rows.tokens[start : start + _AT_ONCE].astype(np.int64))
            with torch.inference_mode():
                best = model(tokens).argmax(-1).numpy()
            found += best[rows.targets[start : start + _AT_ONCE] != IGNORED].tolist()
        return found

    def find(texts: list[str]) -> list[list[tuple[int, int, str]]]:
        words = [[(m.start(), m.end(), m[0]) for m in _WORD.finditer(text)] for text in texts]
        pieces = [
            (number, one[at : at + _MOST_WORDS])
            for number, one in enumerate(words)
            for at in range(0, len(one), _MOST_WORDS)
        ]
        tags = iter(tags_of([[word for _, _, word in piece] for _, piece in pieces]))
        spans: list[list[tuple[int, int, str]]] = [[] for _ in texts]
        for number, piece in pieces:
            for start, end, _ in piece:
                name = names[next(tags)]
                if name != "O":
                    _add(spans[number], start, end, name.partition("-")[2].upper())
        return spans

    return find


def _add(spans: list[tuple[int, int, str]], start: int, end: int, tag: str) -> None:
    """A tagged word goes on with the one before it where only a blank is between."""
    tag = re.sub(r"[^A-Z]", "", tag) or "NAME"
    if spans and spans[-1][2] == tag and start - spans[-1][1] <= 1:
        spans[-1] = (spans[-1][0], end, tag)
    else:
        spans.append((start, end, tag))
