"""Who decides each field of a run manifest: what a hospital holds it against."""

from __future__ import annotations

from wardround.common.decided import Decided, bound, derived, keys, position

_PLAN, _POLICY = "client.site.plan_checks.check_plan", "client.site.rules.check_rules"
_SETTINGS = "equal to its settings"

SENT: dict[str, Decided] = {
    "format": keys("this one", "common.manifest.manifest.Manifest.from_body"),
    "stage": position(
        "before the second nothing is trained; one that a person approved goes on as it is, with "
        "the arrays filled in",
        "client.site.approval.Approvals.is_approved",
    ),
    "run": position(
        "one that nobody here rejected; requests and the ledger have it too",
        "client.site.approval.Approvals.check_consent",
    ),
    "study": bound(
        "the id of the study that came with it, which both parties have signed; '' where the "
        "network is one federation",
        "client.site.plan_checks.check_plan",
    ),
    "federation": bound("the signed description's", _PLAN),
    "description": bound(
        "digest of what its own signed description says; its dates are held against its own clock",
        _PLAN,
    ),
    "description_version": bound("its own signed description's", _PLAN),
    "descriptor": derived("digest of its own settings", _PLAN),
    "protocol": bound("its own", _PLAN),
    "versions": bound("of wardround: its own; others are said in its log", _PLAN),
    "task": bound(_SETTINGS, _PLAN),
    "task_sha256": derived("of its own copy of the file", _POLICY),
    "model_family": derived(_SETTINGS, _PLAN),
    "procedure": bound(f"{_SETTINGS}; one of `procedures` of site.toml", _POLICY),
    "steps": derived("as many as its own program may take with these settings", _PLAN),
    "rounds": bound("up to `max_rounds` of site.toml; what the person approves", _POLICY),
    "cohort": bound("up to the roster; `min_cohort` and thresholds are held for it", _POLICY),
    "uploads": bound(
        "how often it sends a vector for one sum; one that isn't opened tells nothing, and costs "
        "privacy where there is any",
        "client.secagg.contributions.Contributions.check",
    ),
    "largest_weight": derived(
        "cuts off no more of its rows than `max_examples`; 1 where all count the same",
        "client.requests.settings.check_weight",
    ),
    "first_model": derived(
        "digest of what round 1 brings, which it makes from the seed itself (but with "
        "federation.initial)",
        "client.requests.received.receive",
    ),
    "strategy": bound(_SETTINGS, _PLAN),
    "algorithms": bound("the strategy's; of a strategy of one's own, known here", _PLAN),
    "privacy": bound(f"{_SETTINGS}, key by key", _PLAN),
    "secure_aggregation": bound(f"{_SETTINGS}, key by key, but for its own policy's", _PLAN),
    "compression": bound(f"{_SETTINGS}, key by key", _PLAN),
    "roster": bound("the signed description's", _PLAN),
    "leaves": derived("exactly what its own program would send", _PLAN),
}
