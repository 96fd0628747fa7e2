"""Regression on columns that several parties hold of the same persons.

Each party keeps its columns; what is computed of all of them is in additive shares modulo 2^64 (a
value is the sum of one number at each party, each of them uniform by itself), and only what the
plan lists is opened: sums over all persons. A dealer, the coordinator or a party without columns,
gives correlated randomness, sees no share and learns nothing but sizes.

``ring`` is the arithmetic, ``deal`` the randomness, ``room`` how values are opened, ``columns`` and
``harmonics`` what is computed, ``machine`` how a protocol that is written as one text becomes a
party which can be killed. No value of a person is opened, no row leaves in the clear, and nothing
here guards against a party that departs from the protocol or colludes with the dealer.
"""
