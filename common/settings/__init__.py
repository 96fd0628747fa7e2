"""The tables of ``federation.toml``: each key with type, range, default and meaning, once.

A key that works only together with another is in ``known_effects``. Nothing here reads a file:
``common/config/load.py`` puts the tables together, and says where a mistake stands.
"""

from wardround.common.settings.base import Positive, Table
from wardround.common.settings.card import CardTable
from wardround.common.settings.cohort import CohortTable
from wardround.common.settings.compression import CompressionTable
from wardround.common.settings.finished import NamedModel
from wardround.common.settings.joint import (
    LINKAGE,
    SPLIT,
    VERTICAL,
    JointOptions,
    LinkageOptions,
    SplitOptions,
    VerticalOptions,
)
from wardround.common.settings.judgement import JudgementTable
from wardround.common.settings.machines import EMULATED, ServerTable, SimulationTable
from wardround.common.settings.needs import NeedsTable
from wardround.common.settings.network import NetworkTable, StudyTable
from wardround.common.settings.procedure import (
    CALIBRATE,
    DESCRIBE,
    EVALUATE,
    MONITOR,
    STATISTICS,
    TRAIN,
    TREES,
    CalibrateOptions,
    DescribeOptions,
    EvaluateOptions,
    FinishedOptions,
    MonitorOptions,
    ProcedureTable,
    RowsOptions,
)
from wardround.common.settings.protection import (
    OWN_PRIVACY,
    PURPOSES,
    Engine,
    PrivacyTable,
    Purpose,
    SecureAggregationTable,
    SharesTable,
)
from wardround.common.settings.run import (
    BUFFERED,
    DataTable,
    EvaluationTable,
    FederationTable,
    StrategyTable,
    without_pace,
)
from wardround.common.settings.statistics import StatisticsOptions
from wardround.common.settings.task import (
    LINKED,
    TASK_PATHS,
    TaskTable,
    absolute_paths,
    is_built_in,
    pretrained,
    pretrained_key,
    without_folders,
)
from wardround.common.settings.teacher import TeacherTable
from wardround.common.settings.tracking import TrackingTable
from wardround.common.settings.training import OWN_TRAINING, Precision, TrainingTable
from wardround.common.settings.trees import TreesOptions

__all__ = [
    "EMULATED",
    "BUFFERED",
    "CardTable",
    "CohortTable",
    "CompressionTable",
    "DESCRIBE",
    "DataTable",
    "DescribeOptions",
    "CALIBRATE",
    "EVALUATE",
    "Engine",
    "MONITOR",
    "STATISTICS",
    "TREES",
    "TreesOptions",
    "StatisticsOptions",
    "CalibrateOptions",
    "MonitorOptions",
    "EvaluateOptions",
    "EvaluationTable",
    "FederationTable",
    "FinishedOptions",
    "JointOptions",
    "JudgementTable",
    "LINKAGE",
    "LinkageOptions",
    "SPLIT",
    "SplitOptions",
    "VERTICAL",
    "VerticalOptions",
    "NamedModel",
    "NeedsTable",
    "NetworkTable",
    "OWN_PRIVACY",
    "OWN_TRAINING",
    "Positive",
    "Precision",
    "PURPOSES",
    "PrivacyTable",
    "Purpose",
    "SharesTable",
    "ProcedureTable",
    "RowsOptions",
    "SecureAggregationTable",
    "ServerTable",
    "SimulationTable",
    "StrategyTable",
    "StudyTable",
    "LINKED",
    "TASK_PATHS",
    "TRAIN",
    "Table",
    "TaskTable",
    "TeacherTable",
    "TrackingTable",
    "TrainingTable",
    "absolute_paths",
    "is_built_in",
    "pretrained",
    "pretrained_key",
    "without_folders",
    "without_pace",
]
