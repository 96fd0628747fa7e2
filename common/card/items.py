"""What three frames for reporting ask of a model, and where its card answers.

* TRIPOD+AI: Collins et al., BMJ 385, 2024: e078378 (27 items);
* CHAI: the Coalition for Health AI's Applied Model Card (2024), by its headings;
* EU: Annex IV of Regulation (EU) 2024/1689, technical documentation of high-risk AI systems.

The words are ours and short; who must comply reads the originals.
"""

from __future__ import annotations

from typing import NamedTuple


class Item(NamedTuple):
    """One item.

    asks : in short
    sections : headings of the card that the run has filled for it
    keys : of ``[card]``: what a person says to it
    """

    number: str
    asks: str
    sections: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


DETAILS, USES, DATA, INPUTS = "Model details", "Uses", "Data", "Inputs"
OUTPUTS, TRAINING, PRIVACY = "Outputs", "Training", "Protection of patients"
FIGURES, GROUPS, LIMITS, WATCH = "Evaluation", "Groups", "Risks and limits", "Use and monitoring"

TRIPOD = (
    Item("1", "Title: a prediction model, its population and outcome", (DETAILS,), ("title",)),
    Item("2", "Abstract", (), ()),
    Item("3a", "Background: context and reasons", (), ("background",)),
    Item("3b", "Target population, purpose, users", (), ("population", "intended_use", "users")),
    Item("3c", "Known health inequalities", (), ("inequalities",)),
    Item("4", "Objectives", (), ("objectives",)),
    Item("5", "Data: sources and dates", (DATA,), ("setting",)),
    Item("6", "Participants: setting, eligibility, treatments", (), ("eligibility", "treatments")),
    Item("7", "Preparation of the data", (INPUTS, TRAINING)),
    Item("8", "Outcome: definition, assessment", (OUTPUTS,), ("outcome",)),
    Item("9", "Predictors: choice, definition, measurement", (INPUTS,), ("predictors",)),
    Item("10", "Sample size", (DATA,), ("sample_size",)),
    Item("11", "Missing data", (INPUTS,)),
    Item("12", "Analytical methods", (TRAINING, FIGURES)),
    Item("13", "Class imbalance", (DATA, FIGURES)),
    Item("14", "Fairness", (GROUPS,), ("inequalities",)),
    Item("15", "Output of the model, thresholds", (OUTPUTS, FIGURES)),
    Item("16", "Differences between training and evaluation", (DATA,)),
    Item("17", "Ethical approval", (), ("ethics",)),
    Item("18a", "Funding", (), ("funding",)),
    Item("18b", "Conflicts of interest", (), ("conflicts",)),
    Item("18c-d", "Protocol, registration", (), ("registration",)),
    Item("18e-f", "Sharing of data and code", (), ("sharing",)),
    Item("19", "Involvement of patients and the public", (), ("involvement",)),
    Item("20", "Participants: flow and characteristics", (DATA, INPUTS)),
    Item("21", "Numbers in each analysis", (DATA, FIGURES)),
    Item("22", "The model itself", (DETAILS, INPUTS)),
    Item("23a", "Performance with intervals", (FIGURES,)),
    Item("23b", "Heterogeneity: groups, hospitals", (GROUPS, FIGURES)),
    Item("24", "Updating of the model", (WATCH,), ("maintenance",)),
    Item("25", "Interpretation", (), ("interpretation",)),
    Item("26", "Limitations", (LIMITS,), ("limitations",)),
    Item("27", "Usability in current care", (WATCH,), ("usability", "workflow")),
)
CHAI = (
    Item("Developer", "Who made it, whom to ask", (), ("developers", "contact")),
    Item("Release", "Version, date, where it may be used", (DETAILS,), ("version", "regulatory")),
    Item("Uses", "Intended use and workflow", (), ("intended_use", "workflow")),
    Item("Users", "Primary users; patients; how to use it", (WATCH,), ("users", "population")),
    Item("Cautions", "Out-of-scope settings", (), ("out_of_scope",)),
    Item("Warnings", "Risks, limits, biases", (LIMITS,), ("risks", "limitations")),
    Item("Risk level", "Clinical risk", (), ("clinical_risk",)),
    Item("Facts", "Outputs, type of model, inputs, data", (DETAILS, INPUTS, OUTPUTS, DATA)),
    Item("Bias mitigation", "What was done about bias", (GROUPS,), ("inequalities",)),
    Item("Maintenance", "Monitoring and updates", (WATCH,), ("maintenance",)),
    Item("Transparency", "Funding, third parties, whom one asked", (), ("funding", "involvement")),
    Item("Usefulness", "Usefulness, usability, efficacy", (FIGURES,), ("usability",)),
    Item("Fairness", "Fairness and equity", (GROUPS,)),
    Item("Safety", "Safety and reliability", (FIGURES, LIMITS), ("risks",)),
    Item("Resources", "Trials, publications, consent", (), ("evidence", "ethics")),
)
ANNEX_IV = (
    Item("1", "General description", (DETAILS,), ("intended_use", "developers", "version")),
    Item("2a-c", "How it was developed; design; architecture", (DETAILS, TRAINING)),
    Item("2d", "Data: origin, scope, characteristics, cleaning", (DATA, INPUTS), ("setting",)),
    Item("2e", "Human oversight", (), ("oversight",)),
    Item("2f", "Changes that were foreseen", (), ("maintenance",)),
    Item("2g", "Validation and testing", (FIGURES, GROUPS)),
    Item("2h", "Cybersecurity", (PRIVACY,)),
    Item("3", "Capabilities, limits, accuracy for groups", (FIGURES, GROUPS, LIMITS), ("risks",)),
    Item("4", "Why these metrics", (FIGURES,)),
    Item("5", "Risk management", (), ("risk_management",)),
    Item("6", "Changes over its life", (), ("maintenance",)),
    Item("7", "Standards", (), ("standards",)),
    Item("8", "Declaration of conformity", (), ("conformity",)),
    Item("9", "Monitoring after it is on the market", (WATCH,), ("maintenance",)),
)
FRAMES = {
    "TRIPOD+AI": TRIPOD,
    "CHAI applied model card": CHAI,
    "EU AI Act, Annex IV": ANNEX_IV,
}
