"""A language model's answers: against transformers' own generation, and what they depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.common.tasks.text.causal.tiny import tiny_llama
from wardround.common.errors import TaskError
from wardround.common.tasks.text.causal.generate import Decoder, Generation, Pieces
from wardround.common.tasks.text.causal.network import CausalModel
from wardround.common.tasks.text.causal.task import CausalTask

PROMPTS = [[1, 5, 9], [1, 5, 9, 12, 14, 8, 7], [1]]


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "head of its own"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(
        tmp_path_factory.mktemp("base"), spread=0.2, tie_word_embeddings=request.param
    )


def model_of(base: Path, tuning: str = "lora") -> CausalModel:
    task = CausalTask(kind="causal", base_model=str(base), max_length=64, tuning=tuning)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = task.model({})
        for name, value in model.named_parameters():
            if ".lora_" in name:
                torch.nn.init.normal_(value, std=0.3)
    assert isinstance(model, CausalModel)
    return model.eval()


def theirs(model: CausalModel, prompt: list[int], count: int) -> list[int]:
    """transformers' greedy generation by the same weights."""
    from wardround.common.export.language_exporter import whole_model

    whole: Any = whole_model(model.merged())
    ids = torch.tensor([prompt])
    found = whole.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=count,
        eos_token_id=2,
        pad_token_id=0,
    )
    tokens = found[0, len(prompt) :].tolist()
    return tokens[: tokens.index(2)] if 2 in tokens else tokens


@pytest.mark.parametrize("tuning", ["lora", "dora", "adalora", "full"])
def test_the_likeliest_tokens_are_those_of_transformers(base: Path, tuning: str) -> None:
    model = model_of(base, tuning)
    answers = Decoder(model, {2}, 128).answers(PROMPTS, Generation(max_new_tokens=12))
    assert [one.tokens for one in answers] == [theirs(model, one, 12) for one in PROMPTS]
    assert len({tuple(one.tokens) for one in answers}) > 1


def test_what_stands_before_a_prompt_is_seen(base: Path) -> None:
    """Of a tuned prompt: each token that is written is the likeliest by the model's own forward
    pass over all that stands before it."""
    task = CausalTask(kind="causal", base_model=str(base), max_length=64, tuning="prompt")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = task.model({})
    assert isinstance(model, CausalModel)
    answers = Decoder(model.eval(), set(), 100).answers(PROMPTS, Generation(max_new_tokens=6))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([*prompt, *answer.tokens])
        inputs = torch.stack([ids, torch.arange(len(ids)), torch.ones_like(ids), ids * 0])[None]
        with torch.no_grad():
            scores = model.scores(model.hidden(inputs))[0]
        assert scores.argmax(1)[len(prompt) - 1 : -1].tolist() == answer.tokens


def test_an_answer_doesnt_depend_on_the_prompts_beside_it(base: Path) -> None:
    decoder = Decoder(model_of(base), {2}, 128)
    how = Generation(max_new_tokens=20)
    together = decoder.answers(PROMPTS, how)
    assert together == [decoder.answers([one], how)[0] for one in PROMPTS]


def test_what_is_drawn_follows_from_the_seed_alone(base: Path) -> None:
    decoder = Decoder(model_of(base), set(), 128)
    how = Generation(max_new_tokens=16, temperature=1.5, seed=7)
    state = torch.random.get_rng_state()
    first = decoder.answers([PROMPTS[1]], how)[0].tokens
    assert torch.equal(torch.random.get_rng_state(), state)
    assert decoder.answers([PROMPTS[1]], how)[0].tokens == first
    other = decoder.answers([PROMPTS[1]], how.model_copy(update={"seed": 8}))[0].tokens
    assert other != first


def test_of_a_tiny_share_the_likeliest_is_left(base: Path) -> None:
    decoder = Decoder(model_of(base), set(), 128)
    greedy = decoder.answers([PROMPTS[1]], Generation(max_new_tokens=10))[0].tokens
    drawn = Generation(max_new_tokens=10, temperature=1.0, top_p=1e-6)
    assert decoder.answers([PROMPTS[1]], drawn)[0].tokens == greedy


def test_draws_have_the_models_probabilities(base: Path) -> None:
    model = model_of(base)
    with torch.no_grad(), model.tuned():
        hidden = model.body(input_ids=torch.tensor([PROMPTS[1]])).last_hidden_state[:, -1]
        wanted = torch.softmax(model.scores(hidden).double()[0], 0)
    draws = 4000
    decoder = Decoder(model, set(), 128)
    how = Generation(max_new_tokens=1, temperature=1.0)
    found = decoder.answers([PROMPTS[1]] * draws, how)
    counts = torch.bincount(torch.tensor([one.tokens[0] for one in found]), minlength=len(wanted))
    # four standard deviations of a binomial, for each of 259 tokens
    bound = 4 * (wanted * (1 - wanted) / draws).sqrt() + 1e-3
    assert ((counts / draws - wanted).abs() < bound).all()


def test_an_answer_ends_at_its_end_or_where_the_context_does(base: Path) -> None:
    model = model_of(base)
    free = Decoder(model, set(), 128).answers([PROMPTS[1]], Generation(max_new_tokens=30))[0]
    stop = free.tokens[3]
    cut = Decoder(model, {stop}, 128).answers([PROMPTS[1]], Generation(max_new_tokens=30))[0]
    assert cut.tokens == free.tokens[: free.tokens.index(stop)] and cut.ended and not free.ended
    full = Decoder(model, set(), 10).answers([PROMPTS[1]], Generation(max_new_tokens=30))[0]
    assert full.tokens == free.tokens[:3]
    with pytest.raises(TaskError, match="7 tokens and the model takes 7"):
        Decoder(model, set(), 7).answers([PROMPTS[1]], Generation())


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="aé€😀 \n", max_size=20))
def test_pieces_are_the_text_and_whole_characters(text: str) -> None:
    data = list(text.encode())
    pieces = Pieces(lambda tokens: bytes(tokens).decode("utf-8", "replace"))
    found = [pieces.add(byte) for byte in data]
    assert "".join(found) + pieces.end() == text
    assert not any("\N{REPLACEMENT CHARACTER}" in one for one in found)
