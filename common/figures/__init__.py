"""What models are measured by: sums that hospitals can add, the figures of them, and records.

It needs neither torch nor a model, and it never sees a single patient's prediction again once it
is in a sum.
"""
