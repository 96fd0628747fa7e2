"""Finished models of texts and images, as a run would leave them, without the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.figures.sums import Sums
from wardround.common.model.entries import Entries
from wardround.common.model.named import build_model, model_arrays
from wardround.common.model.saved import MODEL, ModelForm, write_preparation
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.model_folder.write import describe_model, seal_folder
from wardround.common.tasks.base import Task
from wardround.common.tasks.text.encoder import digest_words


def text_settings(encoder: Path, kind: str, more: str = "") -> str:
    """The text of a ``federation.toml``."""
    task = f'[task]\nname = "text"\nkind = "{kind}"\nencoder = "{encoder}"\nmax_length = 40\n'
    rank = "" if '"full"' in more or '"prompt"' in more else "rank = 4\n"
    return f"{task}{rank}{more}\n"


def text_folder(folder: Path, encoder: Path, kind: str, more: str = "") -> ModelFolder:
    """A model folder of texts with adapters that change a good deal."""
    totals = {"encoder": digest_words(encoder)}
    return _folder(folder, text_settings(encoder, kind, more), totals, str(encoder))


def image_folder(folder: Path, task: str, channels: int = 1) -> ModelFolder:
    """A model folder of images. ``task``: lines of its table, as TOML has them."""
    totals = {
        "images": np.array([40.0]),
        "mean": np.array([12.0] * channels),  # sums: a mean of 0.3, a deviation of 0.37
        "squares": np.array([9.0] * channels),
    }
    return _folder(folder, f'[task]\nname = "imaging"\n{task}\n', totals)


def _folder(folder: Path, text: str, totals: Sums, encoder: str = "") -> ModelFolder:
    config = parse_config(text)
    task = make_task(config)
    model = build_model(task, totals, config.federation.seed)
    _draw(task, model)
    folder.mkdir(parents=True)
    form = ModelForm.of(task, model, Entries.of(model))
    form.write(folder / MODEL, model_arrays(model), 3, config.federation.seed)
    write_preparation(folder, totals)
    describe_model(folder, config, task, totals)
    seal_folder(folder, run="made-1", round=3, identity=None)
    return ModelFolder.open(folder, encoder=encoder)


def _draw(task: Task[Any], model: torch.nn.Module) -> None:
    """Weights that matter: adapters begin at zero, and running statistics at 0 and 1."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            drawn = torch.randn(value.shape, generator=generator)
            if "lora_" in name:
                value.copy_(0.3 * drawn)
            elif name.endswith("running_mean"):
                value.copy_(0.1 * drawn)
            elif name.endswith("running_var"):
                value.copy_(drawn.abs() + 0.5)
            elif name.startswith("head."):
                value.copy_(drawn)
