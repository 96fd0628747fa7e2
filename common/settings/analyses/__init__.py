"""Options of the analyses that ``[[procedure.analyses]]`` lists, by kind.

    base            what every one has
    multivariate    principal components

A family's options stand in a file of its own; ``ANALYSES`` knows them all.
"""

from wardround.common.settings.analyses.base import AnalysisOptions, ColumnName
from wardround.common.settings.analyses.multivariate import PcaOptions

ANALYSES: dict[str, type[AnalysisOptions]] = {
    "pca": PcaOptions,
}
"""Options of what there is, by ``kind``."""

__all__ = ["ANALYSES", "AnalysisOptions", "ColumnName", "PcaOptions"]
