"""``wardround data example``: the example's rows as a file, to try commands with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wardround.common.errors import DataError


def example_rows(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Where to; never over a file.")],
) -> None:
    """Write the rows of the built-in example (569 of breast cancer, public) as a CSV file."""
    import pyarrow.csv as arrow_csv

    from wardround.common.durable.files import writing
    from wardround.common.tasks.tabular import example_table

    if file.exists():
        raise DataError("is there already", who=str(file), mend="name a file that isn't")
    with writing(file, "write them again"):
        arrow_csv.write_csv(example_table(), file)
    print(file)
