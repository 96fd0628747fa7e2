"""``wardround privacy``: what a budget buys, what a ledger says, and attacks on one's own run.

It never changes a run or a ledger.
"""
