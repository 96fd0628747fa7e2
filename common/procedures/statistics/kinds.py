"""The analyses that there are."""

from __future__ import annotations

from wardround.common.config.load import Config
from wardround.common.procedures.statistics.analysis import AnyAnalysis
from wardround.common.procedures.statistics.counts.correlation import Correlation
from wardround.common.procedures.statistics.counts.crosstab import Crosstab
from wardround.common.procedures.statistics.counts.summary import Summary
from wardround.common.procedures.statistics.counts.table_one import TableOne
from wardround.common.procedures.statistics.multivariate.kmeans import Kmeans
from wardround.common.procedures.statistics.multivariate.mixture import Mixture
from wardround.common.procedures.statistics.multivariate.pca import Pca
from wardround.common.procedures.statistics.multivariate.propensity import Propensity
from wardround.common.procedures.statistics.regression.glm import Regression
from wardround.common.procedures.statistics.regression.meta import Meta
from wardround.common.procedures.statistics.regression.mixed import Mixed
from wardround.common.procedures.statistics.regression.penalised import Penalised
from wardround.common.procedures.statistics.survival.cox import Cox
from wardround.common.procedures.statistics.survival.kaplan_meier import KaplanMeier
from wardround.common.procedures.statistics.tests_of_groups.means import (
    Anova,
    PairedTTest,
    TTest,
)
from wardround.common.procedures.statistics.tests_of_groups.ranks import Kruskal, MannWhitney
from wardround.common.settings.analyses import AnalysisOptions
from wardround.common.tasks.tabular import TabularTask

_KINDS: dict[str, type[AnyAnalysis]] = {
    one.kind: one
    for one in (
        Anova,
        Correlation,
        Crosstab,
        Cox,
        KaplanMeier,
        Kmeans,
        Kruskal,
        MannWhitney,
        Meta,
        Mixed,
        Mixture,
        Propensity,
        PairedTTest,
        Pca,
        Penalised,
        Regression,
        Summary,
        TTest,
        TableOne,
    )
}


def make_analysis(options: AnalysisOptions, config: Config, task: TabularTask) -> AnyAnalysis:
    """The one of these options. Raises ConfigError where the settings don't allow it."""
    return _KINDS[options.kind].of(options, config, task)
