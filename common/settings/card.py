"""``[card]``: what only people can say of a model, for its ``card.md``. It computes nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wardround.common.settings.base import Table

MOST_TEXT = 4000
Words = Annotated[str, Field(max_length=MOST_TEXT)]


def _said(description: str) -> Words:
    found: Words = Field("", description=description)
    return found


class CardTable(Table):
    """``[card]``: each key is a paragraph of ``card.md``; what is left out is marked there as to be
    written by a person."""

    title: Annotated[str, Field(max_length=200)] = Field("", description="of the model")
    version: Annotated[str, Field(max_length=64)] = Field("", description="of the model")
    licence: Annotated[str, Field(max_length=64)] = Field("", description="an SPDX name")
    valid_days: int = Field(
        730, ge=1, le=36_500, description="a model folder is good for so many days after the run"
    )
    developers: Words = _said("who made it, and is its provider")
    contact: Words = _said("who answers questions")
    background: Words = _said("the health problem, why a model, and what is known already")
    inequalities: Words = _said("known health inequalities between groups of patients")
    objectives: Words = _said("what the study set out to do: develop, evaluate, or both")
    intended_use: Words = _said("what it is for, and where in the care of a patient")
    users: Words = _said("who uses it, and what they must know")
    population: Words = _said("the patients that it is meant for")
    out_of_scope: Words = _said("where it must not be used")
    workflow: Words = _said("how its output is used, with which other information")
    oversight: Words = _said("how people keep watch over it and can overrule it")
    setting: Words = _said("where and when the data were collected, from which sources")
    eligibility: Words = _said("which patients were included and left out, and why")
    treatments: Words = _said("treatments that patients had, and how they were handled")
    outcome: Words = _said("what the target is, how and when it was assessed, and by whom")
    predictors: Words = _said("why these inputs, and how and when they were measured")
    sample_size: Words = _said("how the number of patients was arrived at")
    ethics: Words = _said("approval by a committee, and consent")
    registration: Words = _said("of the study, and where its protocol lies")
    funding: Words = _said("who paid, and their part in the study")
    conflicts: Words = _said("interests of those who made it")
    sharing: Words = _said("who can get data and code")
    involvement: Words = _said("of patients and the public")
    interpretation: Words = _said("what the results mean, beside those of other studies")
    limitations: Words = _said("what people know beside what the run shows")
    risks: Words = _said("what harm it may do, how likely, and what is done about it")
    clinical_risk: Annotated[str, Field(max_length=200)] = Field(
        "", description="level of clinical risk, by the law that applies"
    )
    regulatory: Words = _said("approvals, and where it may be used")
    standards: Words = _said("harmonised standards that were applied")
    conformity: Words = _said("the EU declaration of conformity")
    risk_management: Words = _said("the system of managing risks")
    maintenance: Words = _said("how and when it is updated, and what may change by itself")
    evidence: Words = _said("trials, publications and other evaluations")
    usability: Words = _said(
        "how it was tried with those who use it, and how poor input is handled"
    )
