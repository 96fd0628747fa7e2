"""A language model that is served: it is asked in torch, for it has no graph to export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from wardround.client.serving.asked import Columns
from wardround.common.errors import DataError, ModelRefused
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.predict.language import Language, LanguagePredictor


class Talking:
    """A language model of a folder that was checked: its answers to ``POST /predict``, which are
    choices' probabilities or what it writes, and itself, to talk to.

    Raises ModelRefused for one whose layers are each hospital's own; CheckpointError, TaskError.
    """

    def __init__(self, folder: ModelFolder, who: str, threads: int) -> None:
        if folder.personal:
            raise ModelRefused("is a language model with layers of each hospital's own", who=who)
        torch.set_num_threads(threads)
        self._predictor = LanguagePredictor(folder)
        (one,) = folder.schema.inputs
        self._input = one.name
        self.language: Language = self._predictor.language

    def run(self, columns: Columns) -> Mapping[str, NDArray[Any]]:
        """Outputs by name, N each. Raises DataError for a prompt that is too long, or empty."""
        prompts = columns[self._input]
        if not all(prompts):
            raise DataError("a prompt is empty")
        found = self._predictor.predict(prompts.tolist())
        return {one.name: found[one.name] for one in self._predictor.schema.outputs}
