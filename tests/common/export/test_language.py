"""A finished language model at work: what it predicts is what its run measured, on the command
line, served, and in the hands of transformers and peft."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import cast

import pytest
import torch
from safetensors.torch import load_file

from tests.client.serving.asgi import Client
from tests.client.serving.made import asked
from tests.common.tasks.text.causal.tiny import asked as question
from tests.common.tasks.text.causal.tiny import tiny_llama, write_lines
from wardround.common.errors import ConfigError, DataError, ModelRefused, TaskError
from wardround.common.explain.explain import explain_rows
from wardround.common.export.exporting import export_model
from wardround.common.export.language_exporter import ADAPTERS
from wardround.common.export.source import Source
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.monitor.rows import read_rows
from wardround.common.monitor.watch import score
from wardround.common.predict import load_model
from wardround.common.predict.cli import predict
from wardround.common.predict.language import Language, LanguagePredictor, Said
from wardround.common.tasks.text.causal.generate import Generation
from wardround.common.tasks.text.causal.network import CausalModel
from wardround.simulations import Result, parse_config, simulate

CHOICES = ("yes", "no", "maybe")
MESSAGES = [{"role": "user", "content": "has the patient fever"}]
SETTINGS = """
[federation]
name = "asked"
rounds = 2
[task]
name = "text"
kind = "causal"
max_length = 64
choices = ["yes", "no", "maybe"]
rank = 4
[task.columns]
split = "split"
[training]
lr = 0.05
optimizer = "adamw"
batch_size = 4
[simulation]
baselines = false
executor = "sequential"
"""


@dataclass(frozen=True)
class Made:
    """A run, its hospitals' files and its base model."""

    result: Result
    data: Path
    base: Path

    @property
    def folder(self) -> Path:
        return self.result.run_directory


def lines(answers: Iterable[str], split: str = "train", extra: int = 0) -> list[dict[str, object]]:
    """A hospital's questions, one a line."""
    symptoms = ("fever", "cough", "pain")
    return [
        question(
            f"has the patient {symptoms[(n + extra) % 3]}" + " ." * (n % 4), answer, split=split
        )
        for n, answer in enumerate(answers)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Four hospitals that differ: one has a single line, one never answers maybe."""
    folder = tmp_path_factory.mktemp("language")
    base, data = tiny_llama(folder / "base", spread=0.2), folder / "data"
    north = lines([*CHOICES] * 4) + lines([*CHOICES] * 2, "test", extra=1)
    write_lines(data / "north.jsonl", north)
    south = lines(["yes", "no"] * 5) + lines(["no", "yes", "no"], "test")
    write_lines(data / "south.jsonl", south)
    write_lines(data / "west.jsonl", lines(["maybe"]))
    east = lines(["yes"] * 9 + ["no"], extra=2) + lines(["yes", "maybe"], "test")
    write_lines(data / "east.jsonl", east)
    sets = [
        f'data.path="{data}"',
        f'task.base_model="{base}"',
        f'federation.runs="{folder / "runs"}"',
    ]
    return Made(simulate(parse_config(SETTINGS, sets)), data, base)


@pytest.fixture(scope="module")
def model(made: Made) -> LanguagePredictor:
    found = load_model(made.folder)
    assert isinstance(found, LanguagePredictor)
    return found


def test_choices_are_those_that_the_run_measured(made: Made, model: LanguagePredictor) -> None:
    hits = asked_for = 0
    for path in sorted(made.data.iterdir()):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found = model.predict(path)
        odds = [found[f"probability_{name}"] for name in CHOICES]
        assert sum(odds) == pytest.approx(1)
        for number, line in enumerate(lines):
            if line["split"] == "test":
                best = max(range(3), key=lambda place: odds[place][number])
                hits, asked_for = hits + (CHOICES[best] == line["response"]), asked_for + 1
    assert asked_for == 11
    assert hits / asked_for == pytest.approx(made.result.figure("accuracy"))


def test_forms_of_rows_give_the_same(model: LanguagePredictor) -> None:
    texts = ["has the patient fever", "has the patient pain . ."]
    wanted = model.predict(texts)["probability_no"]
    records = model.predict([{"prompt": text, "response": None} for text in texts])
    talks = model.predict([[{"role": "user", "content": text}] for text in texts])
    assert records["probability_no"].tolist() == wanted.tolist()
    assert talks["probability_no"].tolist() == wanted.tolist()
    with pytest.raises(DataError, match="number 2: neither a text nor a list"):
        model.predict(["a", 3])
    with pytest.raises(DataError, match=":1: .*max_length = 64; shorten it"):
        model.predict(["a" * 65])  # nobody can raise what it was trained with


def test_the_command_writes(made: Made, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.csv"
    rows.write_text('{"prompt": "has the patient fever"}\n\n{"prompt": "is it pain"}\n')
    predict(made.folder, str(rows), out, write=True, max_new_tokens=5)
    with out.open() as file:
        found = list(csv.DictReader(file))
    assert [one["row"] for one in found] == ["1", "3"]
    assert all(len(one["response"].split()) <= 5 for one in found)
    with pytest.raises(ConfigError, match="add --write"):
        predict(made.folder, str(rows), out, max_new_tokens=5)


def test_an_answer_that_is_there_isnt_looked_at(model: LanguagePredictor, tmp_path: Path) -> None:
    asks = [{"prompt": "is it fever", "response": one} for one in ("", "perhaps", None, 3)]
    found = model.predict(write_lines(tmp_path / "rows.jsonl", asks))
    assert len(set(found["probability_yes"].tolist())) == 1 and len(found["probability_yes"]) == 4


def test_what_needs_one_score_or_counts_of_texts_is_refused_in_a_line(
    made: Made, model: LanguagePredictor
) -> None:
    raw = read_rows(model.task, made.data / "south.jsonl")
    with pytest.raises(TaskError, match="'causal' has no single score.*'sequence'"):
        explain_rows(model.folder, model.module, raw, [0])
    with pytest.raises(TaskError, match="nothing is counted.*'sequence'"):
        score(model, raw)


def test_whole_it_is_a_model_of_transformers(made: Made, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = ModelFolder.open(made.folder)
    found = export_model(Source.of(folder), tmp_path / "whole", "hf")
    assert found.info.parity.largest < 1e-4
    whole = AutoModelForCausalLM.from_pretrained(found.path)
    tokenizer = AutoTokenizer.from_pretrained(found.path)
    ids = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    made_of = whole.generate(
        torch.tensor([ids]), do_sample=False, max_new_tokens=6, eos_token_id=2, pad_token_id=0
    )
    said = tokenizer.decode(made_of[0, len(ids) :], skip_special_tokens=True)
    own = load_model(made.folder)
    assert isinstance(own, LanguagePredictor)
    pieces = own.language.say(MESSAGES, Generation(max_new_tokens=6))
    assert "".join(one.text for one in pieces) == said


def test_adapters_alone_are_those_of_peft(made: Made, tmp_path: Path) -> None:
    folder = ModelFolder.open(made.folder)
    found = export_model(Source.of(folder), tmp_path / "adapters", "peft")
    assert found.info.parity.largest < 1e-4
    size = (found.path / ADAPTERS).stat().st_size
    assert size < (made.base / "model.safetensors").stat().st_size / 4
    with pytest.raises(ModelRefused, match="has no graph"):
        export_model(Source.of(folder), tmp_path / "graph")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks transformers by an older name
@pytest.mark.parametrize("tuning", ["lora", "dora"])
def test_over_a_base_in_bf16_they_are_those_of_peft_on_its_rounded_weights(
    made: Made, tmp_path: Path, tuning: str
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    sets = ["task.base_dtype=bf16", f"task.tuning={tuning}"]
    folder = ModelFolder.open(run_of(made, tmp_path / "runs", *sets).run_directory)
    found = export_model(Source.of(folder), tmp_path / "adapters", "peft")
    assert found.info.parity.largest < 1e-4
    whole = AutoModelForCausalLM.from_pretrained(made.base)
    with torch.no_grad():
        for name, value in whole.named_parameters():
            value.copy_(value if "norm" in name else value.bfloat16().float())
    model = PeftModel.from_pretrained(whole, str(found.path))
    ids = torch.arange(3, 60)[None]
    ours = cast(CausalModel, load_model(folder.path).module)
    with torch.no_grad():
        wanted = ours.scores(ours.body(input_ids=ids).last_hidden_state)
        assert (model(input_ids=ids).logits - wanted).abs().max() < 1e-4


def run_of(made: Made, folder: Path, *sets: str) -> Result:
    """Another run on the same hospitals and the same base."""
    where = [
        f'data.path="{made.data}"',
        f'task.base_model="{made.base}"',
        f'federation.runs="{folder}"',
    ]
    return simulate(parse_config(SETTINGS, [*where, *sets]))


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        (["task.lora_aggregation=products"], "beside the base's weights"),
        (["task.base_dtype=int8"], "over a base in int8"),
        (["task.base_dtype=int8", "task.lora_aggregation=products"], "beside the base's weights"),
    ],
)
def test_what_isnt_a_base_and_its_adapters_is_exported_whole(
    made: Made, tmp_path: Path, sets: list[str], why: str
) -> None:
    result = run_of(made, tmp_path / "runs", *sets)
    rests = [v for name, v in result.model.named_parameters() if "lora_rest" in name]
    assert all(rest.abs().max() > 1e-4 for rest in rests)
    assert bool(rests) == ("products" in sets[-1])
    source = Source.of(ModelFolder.open(result.run_directory))
    found = export_model(source, tmp_path / "whole", "hf")
    assert found.info.parity.largest < 1e-4
    with pytest.raises(ModelRefused, match=f"{why}.*--format hf"):
        export_model(source, tmp_path / "adapters", "peft")


def test_the_probes_of_a_mean_are_no_adapters(made: Made, tmp_path: Path) -> None:
    result = run_of(made, tmp_path / "runs", "task.lora_error=true")
    assert any("lora_probes" in name for name, _ in result.model.named_buffers())
    source = Source.of(ModelFolder.open(result.run_directory))
    found = export_model(source, tmp_path / "adapters", "peft")
    assert {name.split(".")[-2] for name in load_file(found.path / ADAPTERS)} == {
        "lora_A",
        "lora_B",
    }


@pytest.fixture(scope="module")
def client(made: Made) -> Iterator[Client]:
    where = {"encoder": str(made.base), "unsigned": True, "signers": ()}
    with asked(made.folder, **where) as (found, _):
        yield found


def chat(**more: object) -> dict[str, object]:
    return {"messages": MESSAGES, **more}


def test_served_it_predicts_and_talks(client: Client, model: LanguagePredictor) -> None:
    answer = client.post("/predict", json={"rows": [{"prompt": "has the patient fever"}]})
    wanted = model.predict(["has the patient fever"])
    (row,) = answer.json()["predictions"]
    names = [f"probability_{one}" for one in CHOICES]
    assert row == {name: pytest.approx(wanted[name][0]) for name in names}
    whole = client.post("/v1/chat/completions", json=chat(max_tokens=6)).json()
    said = list(model.language.say(MESSAGES, Generation(max_new_tokens=6)))
    assert whole["choices"][0]["message"]["content"] == "".join(one.text for one in said)
    assert whole["usage"]["prompt_tokens"] == said[-1].prompt_tokens
    assert whole["choices"][0]["finish_reason"] == ("stop" if said[-1].ended else "length")


def test_a_stream_is_the_same_in_pieces(client: Client) -> None:
    whole = client.post("/v1/chat/completions", json=chat(max_tokens=6)).json()
    answer = client.post("/v1/chat/completions", json=chat(max_tokens=6, stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, last, empty = answer.text.split("\n\n")
    assert last == "data: [DONE]" and empty == ""
    said = [json.loads(one.removeprefix("data: "))["choices"][0] for one in events]
    assert said[0]["delta"]["role"] == "assistant"
    text = "".join(one["delta"].get("content", "") for one in said)
    assert text == whole["choices"][0]["message"]["content"]
    assert said[-1]["finish_reason"] == whole["choices"][0]["finish_reason"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"stop": "x"}, "no effect"),
        ({"temperature": 3}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "Zebedee", "name": "x"}]}, "hasn't"),
        ({"messages": [{"role": "assistant", "content": "Zebedee"}]}, "take turns"),
        ({"messages": [{"role": "user", "content": "Zebedee " * 100}]}, "max_length"),
        (
            {"messages": [{"role": "user", "content": "Zebedee <|im_end|>"}], "stream": True},
            "marks",
        ),
    ],
)
def test_what_cant_be_answered_is_told_and_not_repeated(
    client: Client, more: dict[str, object], reason: str
) -> None:
    answer = client.post("/v1/chat/completions", json=chat() | more)
    assert answer.status_code == 422, answer.text
    assert reason in answer.text and "Zebedee" not in answer.text


def test_who_leaves_ends_the_work() -> None:
    from wardround.client.serving.chat import Chats

    stop, made_of = Event(), []

    class Endless:
        def say(self, messages: object, how: object) -> Iterator[Said]:
            for number in range(1, 100):
                made_of.append(number)
                yield Said("a", 3, number)

    body = json.dumps(chat(max_tokens=50, stream=True)).encode()
    pieces = Chats(cast(Language, Endless()), "m").events(body, stop)
    assert pieces is not None and b'"a"' in next(pieces) and b'"a"' in next(pieces)
    stop.set()
    assert list(pieces) == [] and len(made_of) <= 3
