"""A check over several keys names the key that is at fault, in full."""

from __future__ import annotations

import pytest

from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError

IMAGES, TEXT, ROWS = (f"[task]\nname = '{name}'\n" for name in ("imaging", "text", "tabular"))


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (IMAGES + "size = [6, 20, 30]", "task.size: cnn needs at least 8 pixels"),
        (IMAGES + "size = [28]", "task.size: list should have at least 2"),
        (IMAGES + "size = [65536, 65536]", "task.size: more than 134217728"),
        (IMAGES + "classes = ['a', 'a']", "task.classes: 'a' stands there twice"),
        (IMAGES + "window = [3.0, 2.0]", "task.window: [low, high]"),
        (IMAGES + "max_gap = 3.0", "task.max_gap: has no effect on images of two axes"),
        (IMAGES + "augment.flip = ['depth']", "task.augment.flip: images of two axes"),
        (IMAGES + "[task.model]\nstem = 'small'", "task.model.stem: has no effect with kind"),
        (IMAGES + "[task.model]\nwidth = 3", "task.model.width: must be a multiple of groups"),
        (
            IMAGES + "[task.model]\nkind = 'resnet18'\nnorm = 'none'",
            "task.model.norm: resnet18 doesn't train",
        ),
        (TEXT + "columns = {text = 'a', label = 'a'}", "task.columns.label: column 'a' has two"),
        (TEXT + "kind = 'sequence'\nclasses = ['a', 'a']", "task.classes: 'a' stands there twice"),
        (TEXT + "entities = ['B-1']", "task.entities: of letters"),
        (TEXT + "target_rank = 2", "task.target_rank: has no effect with tuning"),
        (TEXT + "tuning = 'adalora'\ntarget_rank = 9", "task.target_rank: can't be above rank"),
        (ROWS + "kind = 'survival'", "task.columns.time: kind = 'survival' needs"),
        (ROWS + "columns = {target = ''}", "task.columns.target: kind = 'binary' needs columns"),
        (ROWS + "columns = {numeric = ['*', 'a']}", "task.columns.numeric: ['*'] already"),
        (ROWS + "columns = {binary = ['malignant']}", "task.columns: column 'malignant' has two"),
        (ROWS + "columns = {categories = {a = ['x', 'y']}}", "task.columns.categories: declared"),
        (ROWS + "model = {kind = 'mlp', hidden = [0]}", "task.model.hidden.0: input"),
        (ROWS + "classes = ['a', 'b']", "task.classes: two or more texts, for"),
        (ROWS + "kind = 'survival'\npositive = []\ncolumns = {time = 't', event = 'e'}", "task.po"),
    ],
)
def test_the_key_stands_in_full(text: str, start: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_task(parse_config(text))
    place, _, told = str(caught.value).partition(": ")
    assert place.startswith("configuration") and told.startswith(start), str(caught.value)
