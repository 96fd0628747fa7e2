"""Differential privacy: what both sides and the planner compute with.

    accounting losses  what releases cost together
    mechanism noise    the one way in which anything is noised
    schedule claims    what a hospital will release, and what it says of its ledger
    incompatible       what can't be private together

No party: it never spends a budget.
"""
