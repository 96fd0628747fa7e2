"""Rows explained: tables whole, images where the signal is, texts by their tokens."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from wardround.common.errors import DataError, TaskError
from wardround.common.explain.cam import heat_maps
from wardround.common.explain.explain import explain_rows
from wardround.common.explain.words import token_parts
from wardround.common.explain.write import write_explained
from wardround.common.model_folder.folder import ModelFolder
from wardround.simulations import simulate

DATA = "age,sex,ward,died\n" + "".join(
    f"{40 + n},{'FM'[n % 2]},{'abc'[n % 3]},{int(n % 5 == 0)}\n" for n in range(45)
)
TASK = """
federation.rounds = 1
federation.min_clients = 1
federation.runs = "runs"
simulation.baselines = false
secure_aggregation.enabled = false
data.path = "data"
task.name = "tabular"
task.columns.target = "died"
task.columns.categorical = ["sex", "ward"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    here = tmp_path_factory.mktemp("explain")
    (here / "data").mkdir()
    (here / "data" / "north.csv").write_text(DATA)
    (here / "data" / "south.csv").write_text(DATA.replace("40,F,a,1", "95,M,a,1"))
    (here / "federation.toml").write_text(TASK)
    return ModelFolder.open(simulate(here / "federation.toml").run_directory)


def test_a_tables_row_is_told_by_its_inputs(folder: ModelFolder, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("age,sex,ward\n91,F,c\n,M,zzz\n40,F,a\n")  # a gap, an unseen category
    raw = folder.task.load_rows(rows)
    found = explain_rows(folder, folder.module(), raw, [1, 0])
    assert [one.row for one in found] == [2, 1]
    for one in found:
        assert {part.of for part in one.parts} == {"age", "sex", "ward"}
        assert one.of == "log-odds of 1" and abs(one.missed) < 1e-6
    with pytest.raises(DataError, match="no row 4: 3 rows"):
        explain_rows(folder, folder.module(), raw, [3])


def test_the_page_is_its_owners_and_runs_nothing(folder: ModelFolder, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.csv", tmp_path / "page.html"
    rows.write_text("age,sex,ward\n91,F,c\n50,M,b\n")
    write_explained(folder, folder.module(), folder.task.load_rows(rows), [2], out)
    assert out.stat().st_mode & 0o077 == 0
    text = out.read_text()
    assert "Row 2" in text and "<script" not in text and "moves it by" in text


class Corner(nn.Module):
    """Says how bright the first quarter is."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.look = (nn.Conv2d if axes == 2 else nn.Conv3d)(1, 1, 1, bias=False)
        nn.init.ones_(self.look.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = self.look(x)
        half = tuple(slice(0, size // 2) for size in x.shape[2:])
        return seen[(slice(None), slice(None), *half)].flatten(1).mean(1, keepdim=True)


@pytest.mark.parametrize("axes", [2, 3])
def test_a_heat_map_is_where_the_signal_is(axes: int) -> None:
    images = torch.zeros(2, 1, *[8] * axes)
    images[(0, 0, *[slice(0, 4)] * axes)] = 1.0
    heat = heat_maps(Corner(axes), images, torch.tensor([0, 0]))
    assert heat.shape == (2, *[8] * axes)
    inside = heat[(0, *[slice(0, 3)] * axes)]
    assert inside.min() == 1 and heat[(0, *[slice(5, 8)] * axes)].max() == 0
    assert heat[1].max() == 0  # a dark image: nothing speaks for it
    flat = nn.Sequential(nn.Flatten(), nn.Linear(8**axes, 1))
    with pytest.raises(TaskError, match="no convolution"):
        heat_maps(flat, images, torch.tensor([0, 0]))


def test_token_parts_add_up_and_a_sum_of_words_is_told_exactly() -> None:
    """Of the sum of w . embedding over tokens each part is w . (own - padding's)."""
    torch.manual_seed(3)
    words, weights = nn.Embedding(9, 4), torch.randn(4)

    def model(tokens: torch.Tensor) -> torch.Tensor:
        return (words(tokens) @ weights).sum(1, keepdim=True)

    tokens, keep = torch.tensor([[1, 5, 6, 2]]), torch.tensor([True, False, False, True])
    parts, base, missed = token_parts(
        SimpleNamespace(get_input_embeddings=lambda: words),  # type: ignore[arg-type]
        model,  # type: ignore[arg-type]
        tokens,
        lambda outputs: outputs[:, 0],
        0,
        keep,
    )
    with torch.no_grad():
        wanted = ((words(tokens) - words(torch.zeros_like(tokens))) @ weights)[0].double().numpy()
    wanted[keep.numpy()] = 0
    assert np.allclose(parts, wanted, atol=1e-5) and abs(missed) < 1e-4
    assert np.isclose(base + parts.sum() + missed, float(model(tokens).detach()), atol=1e-5)
