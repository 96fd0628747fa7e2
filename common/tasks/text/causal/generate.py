"""A language model answers: token after token, what it has computed of earlier ones kept.

transformers' own ``generate`` takes settings from files beside the base model and draws from
torch's global generator. Here an answer follows from model, prompt and ``Generation`` alone, and
the caller may stop between any two tokens.

Shapes: B prompts, P tokens of the longest, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from wardround.common.errors import TaskError
from wardround.common.settings.base import Table
from wardround.common.tasks.text.causal.network import CausalModel

LONGEST_ANSWER = 8192


class Generation(Table):
    """How an answer is made."""

    max_new_tokens: int = Field(
        256, ge=1, le=LONGEST_ANSWER, description="tokens of an answer, at most"
    )
    temperature: float = Field(
        0.0, ge=0, le=100, description="0: always the likeliest token; above: drawn, 1 as learnt"
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="drawn of the likeliest tokens that have this probability"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of what is drawn")


@dataclass(frozen=True)
class Answer:
    """One prompt's answer. ``ended``: by its end, and not by ``max_new_tokens``."""

    tokens: list[int]
    ended: bool


class Decoder:
    """Answers prompts by one model.

    stops : ids at which an answer ends; they aren't in it
    longest : tokens that the model takes, prompt and answer together
    """

    def __init__(self, model: CausalModel, stops: set[int], longest: int) -> None:
        self._model, self._stops, self._longest = model.eval(), stops, longest

    def answers(self, prompts: Sequence[list[int]], how: Generation) -> list[Answer]:
        """Answers of several prompts at once, each as if it were alone, up to rounding."""
        found: list[list[int]] = [[] for _ in prompts]
        ended = [False] * len(prompts)
        for step in self.steps(prompts, how):
            for number, token in step:
                if token is None:
                    ended[number] = True
                else:
                    found[number].append(token)
        return [Answer(tokens, end) for tokens, end in zip(found, ended, strict=True)]

    def steps(
        self, prompts: Sequence[list[int]], how: Generation
    ) -> Iterator[list[tuple[int, int | None]]]:
        """Of each step the number of every prompt that is still answered, with its next token; None
        where its answer ends. Raises TaskError for a prompt that fills the model's context."""
        most = max(map(len, prompts))
        if min(map(len, prompts)) < 1 or most >= self._longest:
            raise TaskError(
                f"a prompt has {most} tokens and the model takes {self._longest} with the answer",
                mend="shorten it",
            )
        state = _State(self._model, prompts)
        draws = [_generator(how.seed, number) for number in range(len(prompts))]
        live = list(range(len(prompts)))
        for _ in range(min(how.max_new_tokens, self._longest - most)):
            scores = state.scores()
            chosen = [_chosen(scores[number], how, draws[number]) for number in live]
            told: list[tuple[int, int | None]] = [
                (number, None if token in self._stops else token)
                for number, token in zip(live, chosen, strict=True)
            ]
            yield told
            live = [number for number, token in told if token is not None]
            if not live:
                return
            following = [0] * len(prompts)
            for number, token in told:
                following[number] = token or 0
            state.add(following)


class _State:
    """What the model knows of the prompts and the answers so far.

    Prompts are padded on the left, so that all end at one place; padding is seen by nobody.
    """

    def __init__(self, model: CausalModel, prompts: Sequence[list[int]]) -> None:
        from transformers import DynamicCache

        self._model = model
        device = next(model.parameters()).device
        width = max(map(len, prompts))
        ids = [[0] * (width - len(one)) + one for one in prompts]
        seen = [[0] * (width - len(one)) + [1] * len(one) for one in prompts]
        self._ids = torch.tensor(ids, device=device)
        self._seen = torch.tensor(seen, device=device)
        self._before = 0 if model.prompt is None else len(model.prompt)
        self._seen = F.pad(self._seen, (self._before, 0), value=1)
        self._cache: Any = DynamicCache()
        # transformers 5 renamed it, family by family
        names = inspect.signature(type(model.body).forward).parameters
        self._kept_as = "cache" if "cache" in names else "past_key_values"

    @torch.no_grad()
    def scores(self) -> Tensor:
        """B x V float32: of the token that comes next."""
        model = self._model
        first, self._before = self._before, 0
        new = self._ids.shape[1] + first
        positions = (self._seen.cumsum(1) - 1).clamp_min(0)[:, -new:]
        with model.tuned():
            out: Any = model.body(
                **(model.embedded(self._ids) if first else {"input_ids": self._ids}),
                attention_mask=self._seen,
                position_ids=positions,
                use_cache=True,
                **{self._kept_as: self._cache},
            )
            found = model.scores(out.last_hidden_state[:, -1]).float().cpu()
        if not torch.isfinite(found).all():
            raise TaskError("the model's scores for a prompt are no finite numbers")
        return found

    def add(self, tokens: list[int]) -> None:
        """Each answer's next token (any of one that has ended)."""
        self._ids = torch.tensor(tokens, device=self._ids.device)[:, None]
        self._seen = torch.cat([self._seen, torch.ones_like(self._ids)], 1)


def _generator(seed: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed + number) % 2**63)


def _chosen(scores: Tensor, how: Generation, draw: torch.Generator) -> int:
    """The next token, of V scores."""
    if how.temperature == 0:
        return int(scores.argmax())
    likely, order = torch.softmax(scores.double() / how.temperature, 0).sort(descending=True)
    # the likeliest one always, then those before which less than top_p has been taken
    kept = likely.cumsum(0) - likely < how.top_p
    return int(order[torch.multinomial(likely * kept, 1, generator=draw)])


class Pieces:
    """Tokens to texts as they come: a character that several tokens make is given when it is whole.

    text_of : the text of some tokens
    """

    def __init__(self, text_of: Callable[[list[int]], str]) -> None:
        self._text_of = text_of
        self._tokens: list[int] = []
        self._given = 0

    def add(self, token: int) -> str:
        """What is new with this token; '' while a character isn't whole."""
        self._tokens.append(token)
        text = self._text_of(self._tokens)
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        return self._rest(text)

    def end(self) -> str:
        """What is left."""
        return self._rest(self._text_of(self._tokens))

    def _rest(self, text: str) -> str:
        new, self._given = text[self._given :], len(text)
        return new
