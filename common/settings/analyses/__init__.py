"""Options of the analyses that ``[[procedure.analyses]]`` lists, by kind.

    base            what every one has
    counts          summaries, tables, correlations
    groups          tests whether groups differ
    multivariate    principal components, clusters, mixtures
    survival        times to an event
    regression      by a formula

A family's options stand in a file of its own; ``ANALYSES`` knows them all.
"""

from wardround.common.settings.analyses.base import AnalysisOptions, ColumnName, file_stem
from wardround.common.settings.analyses.counts import (
    CorrelationOptions,
    CrosstabOptions,
    SummaryOptions,
    TableOneOptions,
)
from wardround.common.settings.analyses.groups import (
    AnovaOptions,
    KruskalOptions,
    MannWhitneyOptions,
    PairedTTestOptions,
    TTestOptions,
)
from wardround.common.settings.analyses.multivariate import (
    KmeansOptions,
    MixtureOptions,
    PcaOptions,
)
from wardround.common.settings.analyses.regression import (
    FormulaOptions,
    MetaOptions,
    MixedOptions,
    PenalisedOptions,
    PropensityOptions,
    RegressionOptions,
)
from wardround.common.settings.analyses.survival import CoxOptions, KaplanMeierOptions

ANALYSES: dict[str, type[AnalysisOptions]] = {
    "cox": CoxOptions,
    "kaplan_meier": KaplanMeierOptions,
    "summary": SummaryOptions,
    "table_one": TableOneOptions,
    "crosstab": CrosstabOptions,
    "correlation": CorrelationOptions,
    "t_test": TTestOptions,
    "paired_t_test": PairedTTestOptions,
    "anova": AnovaOptions,
    "mann_whitney": MannWhitneyOptions,
    "kruskal": KruskalOptions,
    "pca": PcaOptions,
    "kmeans": KmeansOptions,
    "mixture": MixtureOptions,
    "propensity": PropensityOptions,
    "regression": RegressionOptions,
    "penalised_regression": PenalisedOptions,
    "meta_analysis": MetaOptions,
    "mixed_model": MixedOptions,
}
"""Options of what there is, by ``kind``."""

__all__ = [
    "ANALYSES",
    "AnalysisOptions",
    "AnovaOptions",
    "ColumnName",
    "CorrelationOptions",
    "CrosstabOptions",
    "CoxOptions",
    "KaplanMeierOptions",
    "KmeansOptions",
    "KruskalOptions",
    "MannWhitneyOptions",
    "MixtureOptions",
    "PairedTTestOptions",
    "PcaOptions",
    "PropensityOptions",
    "RegressionOptions",
    "SummaryOptions",
    "TTestOptions",
    "TableOneOptions",
    "PenalisedOptions",
    "MetaOptions",
    "MixedOptions",
    "FormulaOptions",
    "file_stem",
]
