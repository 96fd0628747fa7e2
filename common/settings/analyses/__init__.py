"""Options of the analyses that ``[[procedure.analyses]]`` lists, by kind.

    base            what every one has
    multivariate    principal components, clusters, mixtures
    survival        times to an event
    regression      generalised linear models by a formula

A family's options stand in a file of its own; ``ANALYSES`` knows them all.
"""

from wardround.common.settings.analyses.base import AnalysisOptions, ColumnName
from wardround.common.settings.analyses.multivariate import (
    KmeansOptions,
    MixtureOptions,
    PcaOptions,
)
from wardround.common.settings.analyses.regression import RegressionOptions
from wardround.common.settings.analyses.survival import KaplanMeierOptions

ANALYSES: dict[str, type[AnalysisOptions]] = {
    "kaplan_meier": KaplanMeierOptions,
    "pca": PcaOptions,
    "kmeans": KmeansOptions,
    "mixture": MixtureOptions,
    "regression": RegressionOptions,
}
"""Options of what there is, by ``kind``."""

__all__ = [
    "ANALYSES",
    "AnalysisOptions",
    "ColumnName",
    "KaplanMeierOptions",
    "KmeansOptions",
    "MixtureOptions",
    "PcaOptions",
    "RegressionOptions",
]
