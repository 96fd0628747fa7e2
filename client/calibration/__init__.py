"""A finished model recalibrated at home, by the hospital's own rows.

The model stays as it is: what corrects it is kept beside it, signed by the hospital. It sends
nothing.
"""
