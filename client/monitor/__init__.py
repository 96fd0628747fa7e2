"""A finished model at work, watched by the hospital that uses it.

Its rows of now are held against the reference that the hospital keeps with the study's results, or
the counts that a server of the model shows. Everything is worked out and written here, for this
hospital: nothing is sent, and nobody else is told of an alarm.
"""
