"""What a report says of a run's privacy: what is protected, from whom, at what cost, what isn't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wardround.common.config.covers import covered, covers
from wardround.common.config.load import Config
from wardround.common.figures.noised import NOT_MEASURABLE

_NEIGHBOURS = {
    "example": "one training row is added or removed",
    "patient": "one patient, with all of their training records, is added or removed",
    "hospital": "one hospital, with all of its patients, is added or removed",
}
_PLACES = {
    "local": "each hospital adds the noise itself, so it need trust neither the server nor the "
    "other hospitals",
    "distributed": "each hospital adds a share, and only sums over hospitals carry the whole: it "
    "trusts that enough of the others add theirs",
    "central": "the server adds it: it is trusted with the sum before",
}


def privacy_notes(
    config: Config, rounds: list[dict[str, Any]], simulated: bool, baselines: Sequence[str] = ()
) -> list[str]:
    """Sentences for the page, the most important first.

    baselines : kinds of model that the page compares with
    """
    table = config.privacy
    if not table.enabled:
        return [
            "This run used no differential privacy: neither the model nor the figures are private."
        ]
    notes = [
        f"Differential privacy, unit {table.unit}: the guarantee compares training data where "
        f"{_NEIGHBOURS[table.unit]}. Noise is {table.noise}: {_PLACES[table.noise]}.",
    ]
    if spent := latest_claims(rounds):
        largest = max(one["epsilon"] for one in spent.values() if one["epsilon"] is not None)
        notes.append(
            f"Spent, as the hospitals claim with their signatures: epsilon {largest:.3g} at most, "
            f"delta {table.delta:g}, over all runs that their ledgers know of."
        )
    if simulated:
        notes.append(
            "The noise of this simulation comes from the run's seed, so that it can be repeated: "
            "whoever knows the seed can take it off. It shows the accuracy that real noise would "
            "leave and protects nobody."
        )
    if table.unit != "hospital":
        notes.append(
            "Announced numbers of patients or rows carry noise of standard deviation "
            f"{table.size_noise:g}, which the epsilon above includes."
        )
    told = {"training": "training", "preparation": "the data's preparation"}
    told |= {"evaluation": "figures on held-out rows, which those patients pay for"}
    noised = [row for row in rounds if row.get("intervals") is not None]
    also = [told[one] for one in covered(config) if one in told and (one != "evaluation" or noised)]
    notes.append(f"Covered: {', '.join(also)}.")
    if noised:
        notes.append(_of_figures(noised))
    if uncovered := _uncovered(config, baselines, bool(noised)):
        notes.append("Not private: " + "; ".join(uncovered) + ".")
    return notes


def _of_figures(noised: Sequence[Mapping[str, Any]]) -> str:
    """What the noise on figures left of them."""
    text = (
        "Figures on held-out rows carry noise too, which those rows' patients pay for; intervals "
        "hold noise and chance. Rounds are compared, chosen and ended early by these figures"
    )
    hidden = {
        f"{split} {name}"
        for split, figures in noised[-1]["overall"].items()
        for name, value in figures.items()
        if value is None
    }
    if not hidden:
        return f"{text}."
    return f"{text}. {NOT_MEASURABLE.capitalize()} in the last one: {', '.join(sorted(hidden))}."


def _uncovered(config: Config, baselines: Sequence[str], noised: bool) -> list[str]:
    found = []
    if not noised:
        found.append("the figures on held-out rows, whose patients are not in any training part")
        if config.evaluation.select == "best":
            found.append("the choice of the best round, by those figures")
    if not covers(config, "preparation"):
        found.append(
            "the sums of the data preparation (means, quantiles, vocabularies) and what each "
            "hospital normalises by them"
        )
    if baselines:
        found.append(f"the {' and '.join(baselines)} models that this page compares with")
    return found


def latest_claims(rounds: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Each hospital's newest claim: epsilon, delta, limit."""
    found: dict[str, dict[str, float | None]] = {}
    for row in rounds:
        found |= row.get("privacy") or {}
    return found
