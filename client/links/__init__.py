"""Links that a hospital keeps: which of its rows are of persons whom others have, too.

A linkage leaves one at each party. It stays here, as keyed digests of its rows' identifiers, for
the studies that it names; nothing of it is ever sent. What is counted here is how often, and on how
many identifiers of others, this hospital has worked.
"""
