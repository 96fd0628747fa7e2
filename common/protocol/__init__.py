"""The vocabulary of the federation: which messages there are, and what is in each.

It never judges a value: replies are checked by the server, and by the hospital's gate before they
leave.
"""
