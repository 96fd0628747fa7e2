"""A look at a table before anyone learns from it: what each column is, and what is odd about it.

``profile(table)`` looks at the columns of one table, ``copies(table, target)`` at what gives a
target away. The researcher's ``wardround init --data`` and a hospital's ``wardround data check``
decide by it. Columnar: one pass per column over typed data or over its distinct texts, no Python
object for each cell. It reads no file, compares no hospitals, and decides nothing. What it returns
of texts (``ColumnProfile.counts``) holds cells: only those of ``shared`` may be shown.
"""

from wardround.common.tasks.data.profile.column import LEAST, ColumnProfile, Kind
from wardround.common.tasks.data.profile.copies import Copy, copies
from wardround.common.tasks.data.profile.table import Profile, profile
from wardround.common.tasks.data.profile.units import header_unit, usual_unit

__all__ = [
    "LEAST",
    "ColumnProfile",
    "Copy",
    "Kind",
    "Profile",
    "copies",
    "header_unit",
    "profile",
    "usual_unit",
]
