"""What is counted of images and texts, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from wardround.common.drift import rows_text
from wardround.common.drift.rows_images import image_columns
from wardround.common.drift.rows_text import tagged_share, text_columns
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.schema import Input, Schema
from wardround.common.tasks.text.rows import IGNORED, Rows
from wardround.common.tasks.text.task import TextTask


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_brightness_contrast_black_and_white_of_an_image(kind: torch.dtype) -> None:
    pixels = torch.tensor([[0, 0, 255, 255], [51, 51, 51, 51], [0, 0, 0, 102]]).reshape(3, 1, 2, 2)
    given = pixels.to(torch.uint8) if kind == torch.uint8 else pixels.float() / 255
    schema = Schema(task="imaging", kind="binary", inputs=(Input(name="scan", kind="image"),))
    found = image_columns(Images(given, np.array([0, 1, -100])), schema)
    expected = {
        "brightness": [0.5, 0.2, 0.1],
        "contrast": [0.5, 0.0, 0.4 * np.sqrt(3) / 4],
        "black": [0.5, 0.0, 0.75],
        "white": [0.5, 0.0, 0.0],
    }
    for what, values in expected.items():
        np.testing.assert_allclose(found[f"input/scan%3A%20{what}"].values, values, atol=1e-6)
    assert found["outcome/class"].values.tolist() == [0, 1, -1]


def test_length_unknown_and_tagged_tokens_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    pad, unknown = 0, 9
    tokenizer = SimpleNamespace(pad=pad, unknown=unknown)
    monkeypatch.setattr(rows_text, "make_tokenizer", lambda folder: tokenizer)
    monkeypatch.setattr(rows_text, "encoder_folder", lambda option: option)
    tokens = np.array([[1, 9, 2, 0], [1, 3, 4, 2]], dtype=np.int32)
    targets = np.array([1, IGNORED])
    raw = Rows(tokens, targets, (), np.zeros((2, 2), dtype=np.int64))
    task: Any = object.__new__(TextTask)
    task.options, task.tagging = SimpleNamespace(encoder=""), False
    schema = Schema(task="text", kind="binary", inputs=(Input(name="note", kind="text"),))
    found = text_columns(raw, task, schema)
    assert found["input/note%3A%20tokens"].values.tolist() == [3, 4]
    assert found["input/note%3A%20unknown%20tokens"].values.tolist() == [1 / 3, 0]
    assert found["outcome/class"].values.tolist() == [1, -1]
    tags = np.array([[0.0, 1.0, 0.0, 2.0], [0.0, 1.0, 2.0, 0.0]])  # what padding says doesn't count
    assert tagged_share(tags, raw, task).tolist() == [1 / 3, 0.5]
