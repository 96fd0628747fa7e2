"""Rows of a database, by a query of the hospital's own: ``source = "sql"``.

One read-only transaction that sees one moment, streamed into typed batches. A database's own words
quote cells (``invalid input syntax for type integer: "Smith..."``) and drivers' quote passwords, so
neither is ever shown: an error is its code, the place in the query and a mend of ours.
"""
