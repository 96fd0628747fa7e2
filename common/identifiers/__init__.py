"""One normal form of each person's identifier, by written rules that all parties share.

Two parties link a person's rows where the forms of all identifiers are equal, byte by byte; so a
form may depend on nothing but the text and the rule: on no language, no date of today, no version
of Python (``folding.py``). ``VERSION`` names the whole set of rules. A form is a cell of a patient:
no message and no log has one.
"""

from wardround.common.identifiers.joining import framed, joined, of_framed
from wardround.common.identifiers.rules import RULES, VERSION, Rule, RuleName, normalise

__all__ = ["RULES", "VERSION", "Rule", "RuleName", "framed", "joined", "normalise", "of_framed"]
