"""Which commands there are, for whom, and where each stands: names only, nothing is imported.

So ``wardround --help`` lists them all without loading any, and a hospital's command never meets the
code of the other sides, nor needs what these have installed.
"""

from __future__ import annotations

from typing import NamedTuple

HOSPITAL, COORDINATOR, RESEARCHER, ANYONE = "Hospital", "Coordinator", "Researcher", "Anyone"
"""For whom a command is: the groups of ``wardround --help``, in their order."""


class Command(NamedTuple):
    """A command of ``wardround``."""

    name: str
    panel: str
    text: str
    """One line of ``wardround --help``."""
    module: str
    """The room's ``cli``; its ``commands`` holds this one."""
    extra: str | None = None
    """Of ``pip install 'wardround[...]'``; None: the plain install has all it needs."""


COMMANDS = (
    Command(
        "client",
        HOSPITAL,
        "Take part as a hospital: `wardround client KIT --data SHARD`.",
        "wardround.client.process.cli",
    ),
    Command(
        "data",
        HOSPITAL,
        "Look at a hospital's data before it takes part: `wardround data check KIT`.",
        "wardround.client.process.data_cli",
    ),
    Command(
        "link",
        HOSPITAL,
        "The links that a hospital keeps: `wardround link list KIT`.",
        "wardround.client.process.link_cli",
    ),
    Command(
        "serve",
        HOSPITAL,
        "Answer requests by a finished model: JSON, FHIR RiskAssessment, CDS Hooks, conversations.",
        "wardround.client.serving.cli",
        "serve",
    ),
    Command(
        "provision",
        COORDINATOR,
        "Make the consortium's authority, the server's certificate and a kit per hospital.",
        "wardround.server.provision.cli",
    ),
    Command(
        "server",
        COORDINATOR,
        "Wait for the hospitals, run the rounds; started again, go on.",
        "wardround.server.process.cli",
        "server",
    ),
    Command(
        "study",
        RESEARCHER,
        "Ask a network of hospitals: submit studies, watch and fetch them.",
        "wardround.client.researcher.cli",
    ),
    Command(
        "account",
        COORDINATOR,
        "Who may sign in to the dashboard: add, list, remove.",
        "wardround.server.dashboard.cli",
        "server",
    ),
    Command(
        "card",
        COORDINATOR,
        "Write a model's card again, with what persons have written since.",
        "wardround.server.results.cli",
    ),
    Command(
        "simulate",
        RESEARCHER,
        "Run a whole federation on this machine and compare it with local and pooled training.",
        "wardround.simulations.cli",
        "simulate",
    ),
    Command(
        "analyse",
        RESEARCHER,
        "Describe the data of all hospitals, or whatever else is asked than to train.",
        "wardround.simulations.cli",
        "simulate",
    ),
    Command(
        "tune",
        RESEARCHER,
        "Search for settings, scored on validation rows.",
        "wardround.simulations.search.cli",
        "simulate",
    ),
    Command(
        "privacy",
        RESEARCHER,
        "Differential privacy: plan a budget, see what is spent, audit a configuration.",
        "wardround.simulations.privacy.cli",
        "simulate",
    ),
    Command(
        "init",
        ANYONE,
        "Write a commented federation.toml, or a network's files, to start from.",
        "wardround.simulations.cli",
    ),
    Command(
        "predict",
        ANYONE,
        "Say what a finished model predicts for rows.",
        "wardround.common.predict.cli",
    ),
    Command(
        "monitor",
        ANYONE,
        "Hold a model's rows of now against a reference: inputs, scores and outcomes.",
        "wardround.common.monitor.cli",
    ),
    Command(
        "report",
        ANYONE,
        "Write a run's report.html again.",
        "wardround.common.run.cli",
        "simulate",
    ),
    Command(
        "export",
        ANYONE,
        "Write a finished model as a graph: raw rows in, predictions out.",
        "wardround.common.export.cli",
        "export",
    ),
    Command(
        "explain",
        ANYONE,
        "Explain single rows: what of each moved the model's output, and by how much.",
        "wardround.common.explain.cli",
    ),
    Command(
        "audit",
        ANYONE,
        "The audit log: verify it, compare several, see what left, begin it anew after damage.",
        "wardround.common.process.audit_cli",
    ),
    Command(
        "doctor",
        ANYONE,
        "Check clock, certificates, reachability, proxy, GPU, disk and data, at either end.",
        "wardround.common.process.cli",
    ),
    Command("version", ANYONE, "Print the version.", "wardround.common.process.cli"),
)
