"""A model as named entries: their kinds, how they start, what of them is saved and loaded.

It never trains or averages.
"""
