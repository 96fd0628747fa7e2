"""Private set intersection: which persons several parties all have rows of, and nothing else.

``party.py`` has the protocol, what each side learns and why; ``points.py`` the curve. It reads no
table, knows no rule of identifiers and keeps nothing: it is given one normal form per row
(``keys``), and gives row numbers in an order that all parties agree on. It never shows a token that
lacks a party's secret to anybody who could compare it with another.
"""
