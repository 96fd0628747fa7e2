"""A text model in Hugging Face's layout, for whoever goes on with it there.

    config.json model.safetensors tokenizer.json tokenizer_config.json

Adapters are merged into the weights. A tagger loads by ``AutoModelForTokenClassification``, and
gives the same logits. A classifier here takes the mean over a text's tokens, which no class of
theirs does: ``AutoModel`` loads its encoder, and ``head.safetensors`` holds ``weight`` (O x H) and
``bias``, of one output the logit of the second class.

Words are to be cut as here (``is_split_into_words=True``), and no code comes with the folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from wardround.common.errors import ModelRefused
from wardround.common.export.exporter import Arrays
from wardround.common.export.names import MASK, TAG_PROBABILITIES, TOKENS, WEIGHTS
from wardround.common.export.source import Source
from wardround.common.tasks.text import encoder as files
from wardround.common.tasks.text.iob import tag_names
from wardround.common.tasks.text.network import TextModel
from wardround.common.tasks.text.task import TextTask

HEAD, TOKENIZER = "head.safetensors", "tokenizer_config.json"
Run = Callable[[Arrays], Mapping[str, NDArray[Any]]]


def hf_files(source: Source) -> dict[str, bytes]:
    """The folder's files, by name. Raises ModelRefused for what is no text model."""
    task, model = source.task, source.module
    if not isinstance(task, TextTask) or not isinstance(model, TextModel):
        raise ModelRefused("only text models have Hugging Face's layout", who=str(source.path))
    if model.prompt is not None:
        raise ModelRefused(
            "a tuned prompt can't be merged into weights",
            who=str(source.path),
            mend="leave --format out: an ONNX graph has it inside",
        )
    folder = files.encoder_folder(task.options.encoder)
    own = model.merged()
    whole, config = _filled(task, own, folder)
    found = {
        "config.json": config.to_json_string(use_diff=False).encode(),
        WEIGHTS: _saved(whole.state_dict()),
        "tokenizer.json": (folder / "tokenizer.json").read_bytes(),
        TOKENIZER: _tokenizer(task, folder),
    }
    if not task.tagging:
        found[HEAD] = _saved(own.head.state_dict())
    return found


def hf_run(source: Source, found: Mapping[str, bytes]) -> Run:
    """What the files predict, as Hugging Face's own classes load them: of ids and mask, what the
    ONNX graph gives."""
    from transformers import AutoModel, AutoModelForTokenClassification

    tagging = HEAD not in found
    kind: Any = AutoModelForTokenClassification if tagging else AutoModel
    with TemporaryDirectory(prefix="wardround-hf-") as name:
        for file, data in found.items():
            (Path(name) / file).write_bytes(data)
        with files.quiet(), torch.random.fork_rng(devices=[]):
            model = kind.from_pretrained(name, local_files_only=True).eval()

    def run(columns: Arrays) -> Mapping[str, NDArray[Any]]:
        tokens, mask = (torch.from_numpy(columns[one]) for one in (TOKENS, MASK))
        with torch.no_grad():
            made = model(input_ids=tokens, attention_mask=mask)
            if tagging:
                logits = made.logits.double() * mask[:, :, None]
                return {TAG_PROBABILITIES: torch.softmax(logits, 2).numpy()}
            mean = (made.last_hidden_state * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            head = load(found[HEAD])
            outputs = torch.nn.functional.linear(mean, head["weight"], head["bias"])
        return source.task.predictions(outputs, source.totals)

    return run


def _filled(task: TextTask, model: TextModel, folder: Path) -> tuple[Any, Any]:
    """A model of theirs with this one's weights, and its settings."""
    from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification

    kind: Any = AutoModelForTokenClassification if task.tagging else AutoModel  # it has no types
    config: Any = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    if not task.tagging:
        with torch.random.fork_rng(devices=[]):
            whole: Any = kind.from_config(config)
        if hasattr(whole, "pooler"):
            whole.pooler = None  # never trained here
        whole.load_state_dict(model.encoder.state_dict())
    else:
        names = tag_names(task.options.entities)
        config.id2label = dict(enumerate(names))
        config.label2id = {name: number for number, name in enumerate(names)}
        with torch.random.fork_rng(devices=[]):
            whole = kind.from_config(config)
        whole.base_model.load_state_dict(model.encoder.state_dict())
        whole.classifier.load_state_dict(model.head.state_dict())
    config.architectures = [type(whole).__name__]
    return whole, config


def _saved(state: Mapping[str, Tensor]) -> bytes:
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    return save(whole, {"format": "pt"})


def _tokenizer(task: TextTask, folder: Path) -> bytes:
    """Which tokens are special, by the tokenizer's own file."""
    words = files.WordTokenizer(folder)
    special = {
        "pad_token": words.pad,
        "unk_token": words.unknown,
        "cls_token": words.prefix[0] if words.prefix else None,
        "sep_token": words.suffix[-1] if words.suffix else None,
    }
    named = {key: words.token(number) for key, number in special.items() if number is not None}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": task.options.max_length,
        "padding_side": "right",
        **named,
    }
    return json.dumps(settings, indent=1, sort_keys=True).encode()
