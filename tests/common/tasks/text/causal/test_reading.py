"""Instruction files: what is read of a line, and what is refused by its line without its text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.common.tasks.text.causal.tiny import asked, tiny_llama, write_lines
from wardround.common.errors import DataError, TaskError
from wardround.common.tasks import load_task
from wardround.common.tasks.text.causal.base import find_base, make_tokenizer
from wardround.common.tasks.text.causal.task import CausalTask


def causal(base: Path, **options: Any) -> CausalTask:
    task = load_task("text", {"kind": "causal", "base_model": str(base)} | options)
    assert isinstance(task, CausalTask)
    return task


def turns(*said: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in said]}


U, A, S = ("user", "secret one"), ("assistant", "secret two"), ("system", "secret three")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[1]", "not an object of JSON"),
        ('{"prompt": "secret', "not an object of JSON"),
        ({"text": "secret"}, "neither 'messages' nor 'prompt'"),
        (asked("secret", "") | turns(U, A), "both 'messages' and 'prompt'"),
        (asked("secret", "  "), "'response' is empty"),
        (asked("", "secret"), "'prompt' is empty"),
        ({"prompt": "secret"}, "there is no response"),
        ({"prompt": 4, "response": "secret"}, "'prompt' is not a text"),
        (turns(), "not a list of role and content"),
        (turns(U), "there is no response"),
        (turns(A), "message 1 is of the assistant, which can't follow nothing"),
        (turns(U, ("assistant", "")), "message 2 is an empty response"),
        (turns(U, U, A), "message 2 is of the user, which can't follow the user"),
        (turns(U, A, A), "message 3 is of the assistant, which can't follow the assistant"),
        (turns(U, S, A), "message 2 is of the system"),
        (turns(U, ("doctor", "secret")), "the role of message 2 is not system, user or assistant"),
        ({"messages": ["secret"]}, "message 1 is not an object with role and content"),
        (asked("secret", "yes", choices=["yes"]), "not a list of 2 to 100 texts"),
        (asked("secret", "yes", choices=["yes", " "]), "empty, or not a text"),
        (asked("secret", "yes", choices=["yes", "yes"]), "stands there twice"),
        (asked("secret", "Yes", choices=["yes", "no"]), "the response is none of the choices"),
        ({"prompt": "secret", "choices": ["yes", "no"]}, "says which choice is right"),
        ({"prompt": "secret", "choices": ["a", "b"], "answer": 2}, "no number from 0 to 1"),
        ({"prompt": "secret", "choices": ["a", "b"], "answer": True}, "none of the choices"),
        (asked("secret", "a", choices=["a", "b"], answer=1), "another choice than 'answer'"),
        (asked("secret <|im_end|>", "a"), "one of the tokenizer's own marks (<|im_end|>)"),
        (asked("secret " * 30, "a"), "more tokens than task.max_length = 128"),
    ],
)
def test_a_line_is_refused_by_its_place_and_without_its_text(
    tmp_path: Path, llama: Path, line: Any, told: str
) -> None:
    path = write_lines(tmp_path / "lines.jsonl", [asked("Is it?", "no"), "", line])
    with pytest.raises(DataError) as caught:
        causal(llama).load(path)
    assert f"{path}:3: " in str(caught.value) and told in str(caught.value)
    assert "secret" not in str(caught.value)


def test_roles_columns_patients_and_splits_are_read(tmp_path: Path, llama: Path) -> None:
    columns = {"prompt": "question", "response": "final", "patient_id": "who", "split": "part"}
    lines = [
        {"question": "A?", "final": "yes", "who": 7.0, "part": "train"},
        {"question": "B?", "final": "no", "who": "8", "part": "dev"},
    ]
    path = write_lines(tmp_path / "lines.jsonl", lines)
    task = causal(llama, columns=columns, choices=["no", "yes"])
    with pytest.raises(DataError, match="'who' names no patient"):
        task.load(path)
    lines[0]["who"] = 7
    raw = task.load(write_lines(path, lines))
    assert raw.patients is not None and raw.splits is not None
    assert raw.patients.tolist() == ["7", "8"] and raw.splits.tolist() == ["train", "validation"]
    assert task.labels(raw).tolist() == [1, 0] and raw.choosing.all()


def test_files_of_a_folder_say_the_split(tmp_path: Path, llama: Path) -> None:
    for name in ("train", "test"):
        write_lines(tmp_path / "site" / f"{name}.jsonl", [asked(f"{name}?", "x")])
    raw = causal(llama).load(tmp_path / "site")
    assert raw.splits is not None and sorted(raw.splits.tolist()) == ["test", "train"]


@pytest.mark.parametrize("cut", ["start", "end"])
def test_the_longest_message_loses_its_start_or_end(tmp_path: Path, llama: Path, cut: str) -> None:
    long = "".join(f"word{number} " for number in range(60))
    path = write_lines(tmp_path / "lines.jsonl", [asked(long, "yes"), asked("B?", "no")])
    task = causal(llama, cut=cut, max_length=100)
    raw = task.load(path)
    assert raw.cut.tolist() == [True, False] and raw.lengths.max() <= 100 and raw.lengths[0] > 90
    text = make_tokenizer(find_base(str(llama))).decode(raw.tokens[: raw.starts[1]])
    kept = "word59" if cut == "start" else "word0 "
    assert kept in text and text.endswith("assistant\nyes<|im_end|>")
    assert text.startswith("<|im_start|>user\n")
    assert "1 prompt was" in task.warnings(raw)[0] and cut in task.warnings(raw)[0]
    with pytest.raises(DataError, match=r"lines.jsonl:1: without its longest message"):
        causal(llama, cut=cut, max_length=100).load(
            write_lines(path, [asked("B?", "a very long answer " * 20)])
        )


def test_a_tokenizer_without_a_chat_template_is_refused_with_the_mend(
    tmp_path: Path,
) -> None:
    bare = tiny_llama(tmp_path / "bare", chat=None)
    path = write_lines(tmp_path / "lines.jsonl", [asked("Is it?", "no")])
    with pytest.raises(TaskError, match=r"task\.template = 'plain'"):
        causal(bare).load(path)
    raw = causal(bare, template="plain").load(path)
    tokenizer = make_tokenizer(find_base(str(bare)))
    assert tokenizer.decode(raw.tokens) == "Is it?\nno<|im_end|>"
    assert causal(bare, template="plain").template().stops == {2}
    own = causal(
        bare,
        chat_template="Q {{ messages[0]['content'] }} A "
        "{% if messages|length > 1 %}{{ messages[1]['content'] }}{% endif %}",
    )
    assert tokenizer.decode(own.load(path).tokens) == "Q Is it? A no<|im_end|>"
    with pytest.raises(TaskError, match="the chat template is none"):
        causal(bare, chat_template="{% for %}").load(path)


def test_a_template_can_refuse_a_line_and_reads_no_clock(tmp_path: Path, llama: Path) -> None:
    text = (
        "{% generation %}{% endgeneration %}"
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ strftime_now('%Y') }} {{ messages[0]['content'] }} "
        "{% if messages|length > 1 %}{{ messages[1]['content'] }}{% endif %}"
    )
    task = causal(llama, chat_template=text)
    raw = task.load(write_lines(tmp_path / "lines.jsonl", [asked("Is it?", "no")]))
    assert make_tokenizer(find_base(str(llama))).decode(raw.tokens).startswith("2024 Is it?")
    path = write_lines(tmp_path / "lines.jsonl", [turns(S, U, A)])
    with pytest.raises(DataError, match=r"lines.jsonl:1: the chat template doesn't take"):
        task.load(path)


def test_a_study_with_choices_takes_no_others(tmp_path: Path, llama: Path) -> None:
    path = write_lines(tmp_path / "lines.jsonl", [asked("A?", "a", choices=["a", "b"], answer="a")])
    with pytest.raises(DataError, match=r"lines.jsonl:1: 'choices' are others than"):
        causal(llama, choices=["b", "a"]).load(path)
