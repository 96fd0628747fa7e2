"""``wardround explain``: why a model says what it says of single rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wardround.common.command_line import example, new_commands

commands = new_commands()

RowsOption = Annotated[
    list[int] | None,
    typer.Option("--row", min=1, metavar="N", help="Which, by its place; may be repeated."),
]
PageOption = Annotated[
    Path, typer.Option("--out", metavar="FILE.html", help="The page, readable by its owner only.")
]


@commands.command(
    epilog=example("wardround explain runs/sepsis-20260131 --data rows.csv --row 3 --row 17")
)
def explain(
    model: Annotated[
        Path, typer.Argument(help="A model folder, a run directory or a results folder.")
    ],
    data: Annotated[Path, typer.Option(help="The rows: a file or folder, targets not needed.")],
    row: RowsOption = None,
    background: Annotated[
        Path | None,
        typer.Option(help="Rows that a table's are held against. Default: those of --data."),
    ] = None,
    out: PageOption = Path("explained.html"),
    task: Annotated[str, typer.Option(metavar="FILE:CLASS", help="Your copy of its task.")] = "",
    encoder: Annotated[str, typer.Option(metavar="FOLDER", help="Its encoder's folder.")] = "",
) -> None:
    """Explain single rows: what of each moved the model's output, and by how much.

    Tables by Shapley values, images by GradCAM, texts by integrated gradients. The page shows
    patients' values: it stays where the rows are.
    """
    from wardround.common.explain.write import write_explained
    from wardround.common.model_folder.folder import ModelFolder

    folder = ModelFolder.open(model, task=task, encoder=encoder)
    raw = folder.task.load_rows(data)
    beside = folder.task.load_rows(background) if background else None
    print(write_explained(folder, folder.module(), raw, row or [1], out, background=beside))
