"""The audit log of a party: written, verified, compared, begun anew after damage.

It never holds a patient's value, and a line that stands is never changed.
"""
