"""``[needs]``: what a study takes of each hospital's machine, as its researcher says."""

from __future__ import annotations

from pydantic import Field

from wardround.common.settings.base import Table


class NeedsTable(Table):
    """``[needs]``: shown with the plan, and held against each hospital's own limits and machine
    before anything is done."""

    memory_gb: float | None = Field(None, gt=0, le=1e6, description="main memory, GiB")
    disk_gb: float | None = Field(
        None, gt=0, le=1e6, description="room in the hospital's state folder, GiB"
    )
    gpu: bool = Field(False, description="a GPU is needed")
    hours: float | None = Field(
        None, gt=0, le=24 * 366, description="computing time of the whole run"
    )

    def words(self) -> str:
        """For people.

        >>> NeedsTable(memory_gb=8, gpu=True).words()
        '8 GiB of memory, a GPU'
        """
        parts = [
            f"{self.memory_gb:g} GiB of memory" if self.memory_gb else "",
            f"{self.disk_gb:g} GiB of disk" if self.disk_gb else "",
            "a GPU" if self.gpu else "",
            f"{self.hours:g} hours" if self.hours else "",
        ]
        return ", ".join(filter(None, parts)) or "nothing named"
