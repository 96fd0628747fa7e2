"""``kind = 'causal'``: a base model learns to answer instructions.

The base model's files are each hospital's own copy and never travel; that all copies are the same
is checked by sums of their digest. What travels is what is trained: adapters, or all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.base import Examples, Task
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.row_keys import content_key
from wardround.common.tasks.data.shards import shard_files, shard_sites
from wardround.common.tasks.low_rank import LowRank
from wardround.common.tasks.schema import LANGUAGE, RESPONSE, Input, Output, Schema, probability_of
from wardround.common.tasks.text.adapters import adapt, check_length, low_rank
from wardround.common.tasks.text.causal import base as files
from wardround.common.tasks.text.causal.example import example_conversations
from wardround.common.tasks.text.causal.figures import FIGURES, answer_figures, answer_sums
from wardround.common.tasks.text.causal.network import CausalModel
from wardround.common.tasks.text.causal.reading import (
    READABLE,
    Conversation,
    read_conversations,
)
from wardround.common.tasks.text.causal.rows import RIGHT, InstructionRows, flat, planes
from wardround.common.tasks.text.causal.template import Template
from wardround.common.tasks.text.causal.to_predict import PromptsToPredict
from wardround.common.tasks.text.frozen import pin_of, same_weight
from wardround.common.tasks.text.options import TextOptions

_EXAMPLE = Path("example")


class CausalTask(PromptsToPredict, Task[InstructionRows]):
    """See ``TextOptions`` for the keyword arguments. Raises pydantic.ValidationError."""

    options_model = TextOptions
    phases = 1
    preparation_reads_rows = False
    figures = FIGURES

    def __init__(self, **options: Any) -> None:
        self.options = TextOptions(**options)
        self.rowwise = not self.options.packing
        self.primary_metric = "accuracy" if self.options.choices else "loss"

    # --- data --------------------------------------------------------------------------------
    def load(self, path: Path | None) -> InstructionRows:
        """Files of JSON lines; None: invented questions.

        Raises DataError naming file and line, TaskError for a base model that can't be used.
        """
        if path is None:
            found = example_conversations(self.options)
            return self.documents([found], [_EXAMPLE])
        shard = shard_files(path, READABLE)
        names = [file for file, _ in shard.files]
        groups = [read_conversations(file, self.options) for file in names]
        splits = [split for _, split in shard.files]
        rows = self.documents(groups, names, splits if all(splits) else None)
        return rows.with_left_out(added([*shard.left_out, *rows.left_out]))

    def template(self) -> Template:
        """What makes conversations token ids. Raises TaskError."""
        return Template(files.make_tokenizer(self._base()), self.options)

    def documents(
        self,
        groups: Sequence[Sequence[Conversation]],
        names: Sequence[Path],
        splits: Sequence[str | None] | None = None,
    ) -> InstructionRows:
        """Conversations of some files as rows. Raises DataError.

        splits : of each file; None where the lines say it, or nobody does
        """
        template = self.template()
        said = [(number, one) for number, group in enumerate(groups) for one in group]
        documents = [template.encode(one, f"{names[number]}:{one.line}") for number, one in said]
        tokens, branches, starts = flat(documents)
        columns = self.options.columns
        given: list[str | None] = (
            [one.split for _, one in said] if splits is None else [splits[at] for at, _ in said]
        )
        patients = [one.patient or "" for _, one in said]
        return InstructionRows(
            tokens,
            branches,
            starts,
            np.array([one.right for _, one in said], dtype=np.int64),
            np.array([one.choosing for _, one in said], dtype=np.bool_),
            tuple(names),
            np.array([(number, one.line) for number, one in said], dtype=np.int64).reshape(-1, 2),
            np.array([_key(one) for _, one in said], dtype=np.str_),
            np.array([one.shortened for one in documents], dtype=np.bool_),
            np.array(given, dtype=np.str_) if all(given) and given else None,
            np.array(patients, dtype=np.str_) if columns.patient_id else None,
        )

    def sites(self, path: Path) -> dict[str, Path]:
        """Folders and files that can be read, by name; other files are not hospitals."""
        return shard_sites(path, READABLE)

    def labels(self, raw: InstructionRows) -> NDArray[np.int64]:
        """The right choice of the study's; else 0."""
        return raw.right if self.options.choices else np.zeros(len(raw), dtype=np.int64)

    def patients(self, raw: InstructionRows) -> NDArray[np.str_] | None:
        return raw.patients

    def measured(self, raw: InstructionRows) -> bool:
        return False  # numbers of tokens

    def row_keys(self, raw: InstructionRows) -> NDArray[np.str_]:
        """A patient's; else of what is asked."""
        return raw.keys if raw.patients is None else super().row_keys(raw)

    def given_split(self, raw: InstructionRows) -> NDArray[np.str_] | None:
        return raw.splits

    def left_out(self, raw: InstructionRows) -> tuple[LeftOut, ...]:
        return raw.left_out

    def warnings(self, raw: InstructionRows) -> list[str]:
        """Messages that were cut; nothing to choose from."""
        lines = []
        if count := int(raw.cut.sum()):
            what = "prompts were" if count > 1 else "prompt was"
            lines.append(
                f"{count} {what} longer than max_length, and lost the "
                f"{self.options.cut} of a message"
            )
        if self.options.choices and len(set(raw.right.tolist())) < 2:
            lines.append("all training answers are one choice: it learns from the others only")
        return lines

    # --- preparation ---------------------------------------------------------------------------
    def statistics(self, train: InstructionRows, phase: int, totals: Sums) -> Sums:
        """``hospitals``: 1; ``base_model``: the digest of its files as 16 whole numbers. Nothing of
        the rows."""
        return {"hospitals": np.ones(1), "base_model": files.digest_words(self._base())}

    def condense(self, totals: Sums) -> Sums:
        """``base_model``: the digest. Raises TaskError unless all have the server's files."""
        own = files.digest_words(self._base())
        hospitals = float(totals["hospitals"][0])
        if not np.array_equal(totals["base_model"], hospitals * own):
            raise TaskError(
                "hospitals have different files of the base model, or others than the server: give "
                "all the same folder or GGUF file as task.base_model"
            )
        return {"base_model": own}

    def prepare(self, raw: InstructionRows, totals: Sums, train: InstructionRows) -> Examples:
        """Planes R x 4 x T int64, and targets R x T int64 (``rows.planes``)."""
        self._check_base(totals)
        options = self.options
        inputs, targets = planes(raw, options.max_length, options.packing)
        return Examples(torch.from_numpy(inputs), torch.from_numpy(targets))

    # --- model ---------------------------------------------------------------------------------
    def model(self, totals: Sums) -> nn.Module:
        """The base model with what ``task.tuning`` trains of it.

        Raises TaskError for a base that can't be used, or isn't the one agreed on.
        """
        options, base = self.options, self._base()
        self._check_base(totals)
        whole = files.make_language_model(base, options.tuning == "full", options.base_dtype)
        check_length(options, files.longest_input(whole), "the base model")
        body, head = whole.base_model, whole.get_output_embeddings()
        if same_weight(head, body.get_input_embeddings()):
            head = None
        adapt(body, options)
        pin = None
        if options.base_dtype != "float32":
            pin = pin_of(files.digest_words(base), options.base_dtype)
        rank_left = options.adalora_rank if options.tuning == "adalora" else None
        return CausalModel(body, head, rank_left, prompt=options.prompt_length, base=pin)

    def low_rank(self, model: nn.Module) -> LowRank | None:
        return low_rank(model, self.options)

    def longest_input(self, model: CausalModel) -> int:
        """Tokens that the model takes, beside those that stand before every row."""
        return files.longest_input(model.body) - self.options.prompt_length

    def schema(self, totals: Sums) -> Schema:
        options, names = self.options, tuple(self.options.choices)
        chosen = tuple(Output(name=probability_of(x), kind="probability", of=x) for x in names)
        return Schema(
            task="text",
            kind=LANGUAGE,
            target=options.columns.response,
            inputs=(Input(name=options.columns.prompt, kind="text"),),
            outputs=chosen or (Output(name=RESPONSE, kind="text"),),
            classes=names,
            max_length=options.max_length,
        )

    def from_files(self, model: nn.Module) -> list[str]:
        """The base's own weights; adapters beside them aren't in its files."""
        return [name for name, _ in model.named_parameters() if ".lora_" not in name]

    def own_files(self) -> Mapping[str, Path]:
        return self._base().paths()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """B: the mean negative log-likelihood of a row's right answers' tokens; 0 without any."""
        right = (targets & RIGHT) > 0
        losses = torch.where(right, -outputs[..., 0], 0.0)
        return losses.sum(1) / right.sum(1).clamp_min(1)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Sums of ``figures``, and ``loss``, 1. Raises TaskError if an output isn't finite."""
        if not torch.isfinite(outputs).all():
            raise TaskError(
                "the model's outputs are not finite numbers; lower training.lr, or set "
                "training.precision = 'float32' where it is 'bf16'"
            )
        outputs, targets = outputs.detach().float().cpu(), targets.detach().cpu()
        options = self.options
        found = answer_sums(
            outputs.numpy(),
            targets.numpy(),
            max(1, len(options.choices)),
            options.choice_score == "mean",
        )
        return found | {"loss": self.loss(outputs, targets).double().sum().reshape(1).numpy()}

    def summarise(self, sums: Sums) -> dict[str, float]:
        return answer_figures(sums)

    def _base(self) -> files.Base:
        return files.find_base(self.options.base_model)

    def _check_base(self, totals: Sums) -> None:
        if "base_model" not in totals:
            return  # made outside a federation
        if not np.array_equal(totals["base_model"], files.digest_words(self._base())):
            raise TaskError(
                "the base model's files here are not those that the federation agreed on; get them "
                "again"
            )


def _key(said: Conversation) -> str:
    """Of what is asked, whatever is answered."""
    texts = [part for one in said.messages for part in (one["role"], one["content"])]
    return content_key("\x1f".join(texts).encode())
