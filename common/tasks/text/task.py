"""The built-in text task: a pretrained encoder tags words, or classifies texts.

The encoder's files are each hospital's own copy and never travel; that all copies are the same is
checked by sums of their digest. What travels is what is trained: adapters and the head, or all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import DataError, TaskError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.base import Examples, Task
from wardround.common.tasks.classes import (
    CLASS_FIGURES,
    PRIMARY,
    UNLABELLED,
    Kind,
    checked_outputs,
    class_figures,
    class_loss,
    class_predictions,
    class_sums,
    loss_sum,
    with_mean_loss,
)
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.shards import shard_sites
from wardround.common.tasks.low_rank import LowRank
from wardround.common.tasks.private_sums import ClassSums, PrivateSums
from wardround.common.tasks.schema import TAGS, Input, Output, Schema, class_outputs
from wardround.common.tasks.text import encoder as files
from wardround.common.tasks.text.adapters import adapt, check_length, low_rank
from wardround.common.tasks.text.entities import described_figures, entity_figures, entity_sums
from wardround.common.tasks.text.entities_noised import EntitySums
from wardround.common.tasks.text.example import example_sentences, example_texts
from wardround.common.tasks.text.frozen import pin_of
from wardround.common.tasks.text.iob import READABLE, tag_names
from wardround.common.tasks.text.network import TextModel
from wardround.common.tasks.text.options import TextOptions
from wardround.common.tasks.text.rows import IGNORED, Rows
from wardround.common.tasks.text.to_predict import (
    RowsToPredict,
    found_spans,
    named_rows,
    of_data,
    of_values,
    row_pieces,
    to_rows,
    whole,
)
from wardround.common.tasks.text.tokenise import (
    CSV_FILES,
    read_sentences,
    read_texts,
    sentence_rows,
    text_rows,
)
from wardround.common.tasks.to_predict import Source

_EXAMPLE = Path("example")


class TextTask(Task[Rows]):
    """See ``TextOptions`` for the keyword arguments. Raises pydantic.ValidationError."""

    options_model = TextOptions
    higher_is_better = True
    rowwise = True
    phases = 1
    preparation_reads_rows = False
    class_scores = True

    def __init__(self, **options: Any) -> None:
        self.options = TextOptions(**options)
        self.tagging = self.options.kind == "tokens"
        self.classes: Kind = "binary" if len(self.options.classes) == 2 else "multiclass"
        self.primary_metric = "f1" if self.tagging else PRIMARY[self.classes]
        entities = described_figures(self.options.entities) if self.tagging else ()
        self.figures = entities or CLASS_FIGURES[self.classes]

    # --- data --------------------------------------------------------------------------------
    def load(self, path: Path | None) -> Rows:
        """IOB files (tokens) or CSV files (sequence); None: invented sentences.

        Raises DataError naming file and line, TaskError for an encoder that can't be used.
        """
        folder = self._folder()
        tokenizer = files.make_tokenizer(folder)
        if path is None:
            return self._example(tokenizer)
        read = read_sentences if self.tagging else read_texts
        return read(path, self.options, tokenizer)

    def _example(self, tokenizer: files.WordTokenizer) -> Rows:
        if self.tagging:
            if self.options.entities[0] != "Disease":
                raise DataError(
                    "the built-in example tags 'Disease'; set data.path for other task.entities"
                )
            sentences = example_sentences()
            owner = np.zeros(len(sentences), dtype=np.int64)
            return sentence_rows(sentences, [_EXAMPLE], owner, None, self.options, tokenizer)
        texts, labels = example_texts()
        return text_rows(texts, labels, _EXAMPLE, self.options, tokenizer)

    def sites(self, path: Path) -> dict[str, Path]:
        """Folders and files that can be read, by name; other files are not hospitals."""
        return shard_sites(path, READABLE if self.tagging else CSV_FILES)

    def labels(self, raw: Rows) -> NDArray[np.int64]:
        """The class; for tokens, 1 if the sentence has an entity."""
        if not self.tagging:
            return raw.targets
        return np.asarray((raw.targets > 0).any(axis=1), dtype=np.int64)

    def patients(self, raw: Rows) -> NDArray[np.str_] | None:
        return raw.patients

    def measured(self, raw: Rows) -> bool:
        return False  # numbers of tokens

    def together(self, raw: Rows) -> NDArray[np.str_] | None:
        """A patient's rows; where no patients are known, the pieces of a long sentence."""
        return raw.patients if raw.patients is not None or not raw.pieces else raw.keys

    def row_keys(self, raw: Rows) -> NDArray[np.str_]:
        """A patient's; else of a sentence's words, or of all cells of a text's row."""
        return super().row_keys(raw) if raw.patients is not None or raw.keys is None else raw.keys

    def given_split(self, raw: Rows) -> NDArray[np.str_] | None:
        return raw.splits

    def left_out(self, raw: Rows) -> tuple[LeftOut, ...]:
        return raw.left_out

    def warnings(self, raw: Rows) -> list[str]:
        """How files are written, sentences that were cut, nothing to learn from."""
        lines = [*raw.told]
        if raw.pieces:
            lines.append(f"{raw.pieces} sentences are longer than max_length and became several")
        if len(set(self.labels(raw).tolist())) < 2:
            what = (
                "sentences have an entity, or none has" if self.tagging else "texts are of a class"
            )
            lines.append(f"all training {what}: it learns from the others only")
        return lines

    # --- preparation ---------------------------------------------------------------------------
    def statistics(self, train: Rows, phase: int, totals: Sums) -> Sums:
        """``hospitals``: 1; ``encoder``: the digest of the encoder's files as 16 whole numbers.
        Nothing of the rows."""
        return {"hospitals": np.ones(1), "encoder": files.digest_words(self._folder())}

    def condense(self, totals: Sums) -> Sums:
        """``encoder``: the digest. Raises TaskError unless all have the server's files."""
        own = files.digest_words(self._folder())
        hospitals = float(totals["hospitals"][0])
        if not np.array_equal(totals["encoder"], hospitals * own):
            raise TaskError(
                "hospitals have different encoder files, or others than the server: give all the "
                f"same folder as task.encoder ({', '.join(files.FILES)} must be equal)"
            )
        return {"encoder": own}

    def prepare(self, raw: Rows, totals: Sums, train: Rows) -> Examples:
        """Token ids N x T int64; tag numbers N x T int64, or classes N (float32 if two)."""
        self._check_encoder(totals)
        targets = torch.from_numpy(raw.targets)
        if not self.tagging and self.classes == "binary":
            targets = torch.where(targets == UNLABELLED, torch.nan, targets.float())
        return Examples(torch.from_numpy(raw.tokens.astype(np.int64)), targets)

    def schema(self, totals: Sums) -> Schema:
        options, names = self.options, tuple(self.options.classes)
        if self.tagging:
            return Schema(
                task="text",
                kind=options.kind,
                inputs=(Input(name="text", kind="text"),),
                outputs=(Output(name=TAGS, kind="tags"),),
                classes=tuple(tag_names(options.entities)),
                max_length=options.max_length,
            )
        return Schema(
            task="text",
            kind=self.classes,
            target=options.columns.label,
            inputs=(Input(name=options.columns.text, kind="text"),),
            outputs=class_outputs(self.classes, names),
            classes=names,
            max_length=options.max_length,
        )

    def predictions(self, outputs: Tensor, totals: Sums) -> dict[str, NDArray[np.float64]]:
        """Of tokens the number of each one's tag, N x T, under 'tags'."""
        if self.tagging:
            return {TAGS: outputs.detach().cpu().argmax(2).double().numpy()}
        return class_predictions(self.classes, outputs, self.options.classes)

    # --- texts to predict ----------------------------------------------------------------------
    def load_rows(self, path: Path) -> Rows:
        return whole(path, self.options, files.make_tokenizer(self._folder()))

    def rows_of_table(self, table: pa.Table) -> Rows:
        written, left = of_data(table, self.options)
        return to_rows(written, left, self.options, files.make_tokenizer(self._folder()))

    def rows_of_values(self, values: Sequence[Any]) -> Rows:
        tokenizer = files.make_tokenizer(self._folder())
        return to_rows(of_values(values, self.options), [], self.options, tokenizer)

    def row_pieces(self, source: Source, as_text: Collection[str] = ()) -> Iterator[Rows]:
        return row_pieces(source, self.options, files.make_tokenizer(self._folder()), as_text)

    def row_names(self, raw: Rows, keep: Sequence[str] = ()) -> dict[str, pa.Array]:
        if not isinstance(raw, RowsToPredict):
            return super().row_names(raw, keep)
        return named_rows(raw, self.options.columns.patient_id, keep)

    def predicted(
        self, raw: Rows, values: Mapping[str, NDArray[Any]], keep: Sequence[str] = ()
    ) -> pa.Table:
        """Of tokens a row for each entity that was found."""
        if not self.tagging or not isinstance(raw, RowsToPredict):
            return super().predicted(raw, values, keep)
        patient = self.options.columns.patient_id
        return found_spans(raw, values["tags"], self.options.entities, patient, keep)

    # --- model ---------------------------------------------------------------------------------
    def model(self, totals: Sums) -> nn.Module:
        """The encoder with what ``task.tuning`` trains of it, dropout and a linear head.

        Raises TaskError for an encoder that can't be used, or isn't the one agreed on.
        """
        options, folder = self.options, self._folder()
        self._check_encoder(totals)
        config = files.encoder_config(folder)
        check_length(options, files.longest_input(config), "the encoder")
        encoder = files.make_encoder(folder, options.tuning == "full", options.base_dtype)
        adapt(encoder, options)
        made = self._network(encoder, files.width(config), int(config["pad_token_id"]))
        made.learn_prompt(options.prompt_length)
        if options.base_dtype != "float32":
            made.base = pin_of(files.digest_words(folder), options.base_dtype)
        return made

    def _network(self, encoder: nn.Module, width: int, pad: int) -> TextModel:
        options = self.options
        outputs = len(options.classes) if self.classes == "multiclass" else 1
        return TextModel(
            encoder,
            width,
            len(tag_names(options.entities)) if self.tagging else outputs,
            pad,
            options.dropout,
            pooled=not self.tagging,
            rank_left=options.adalora_rank if options.tuning == "adalora" else None,
        )

    def low_rank(self, model: nn.Module) -> LowRank | None:
        return low_rank(model, self.options)

    def from_files(self, model: nn.Module) -> list[str]:
        """The encoder's own weights; adapters beside them aren't in its files."""
        return [name for name, _ in model.named_parameters() if ".lora_" not in name]

    def own_files(self) -> Mapping[str, Path]:
        folder = self._folder()
        return {name: folder / name for name in files.FILES}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy, B: the mean over a sentence's words (0 if it has none), or the text's.

        outputs B x T x L and targets B x T with ``IGNORED``; of texts see ``class_loss``.
        """
        if not self.tagging:
            return class_loss(self.classes, outputs, targets)
        losses = F.cross_entropy(
            outputs.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
        )
        words = (targets != IGNORED).sum(1)
        return losses.sum(1) / words.clamp_min(1)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Sums of ``entities`` or ``common.tasks.classes``, and ``loss``, 1.

        Raises TaskError if an output isn't finite.
        """
        outputs, targets = checked_outputs(outputs), targets.detach().cpu()
        losses = loss_sum(self.loss(outputs, targets))
        if not self.tagging:
            return class_sums(self.classes, outputs, targets, self.options.bins) | losses
        predicted = outputs.argmax(2).numpy()
        return entity_sums(targets.numpy(), predicted, len(self.options.entities)) | losses

    def private_sums(self, totals: Sums, noise: float) -> PrivateSums | None:
        if self.tagging:
            return EntitySums(self.options.entities)
        return ClassSums(self.classes, len(self.options.classes), noise)

    def summarise(self, sums: Sums) -> dict[str, float]:
        if self.tagging:
            figures = entity_figures(sums, self.options.entities)
        else:
            figures = class_figures(self.classes, sums)
        return with_mean_loss(figures, sums)

    def _folder(self) -> Path:
        return files.encoder_folder(self.options.encoder)

    def _check_encoder(self, totals: Sums) -> None:
        if "encoder" not in totals:
            return  # made outside a federation
        if not np.array_equal(totals["encoder"], files.digest_words(self._folder())):
            raise TaskError(
                "the encoder's files here are not those that the federation agreed on; get its "
                f"folder again ({', '.join(files.FILES)})"
            )
