"""The studies of a network as the server keeps them: a database, and what is done with its rows.

``store.py`` is the one place that writes: each change of a study compares its state and its fence
and sets the new ones in a single transaction, with a row in the table of events. ``outbox.py``
brings these events to the audit log, each once. Leases end by the database's clock, so that two
servers whose clocks differ agree on who is late.

It never runs a study, never reads what a signed study says, and takes no database's word for a
signature: a hospital checks the study that it is shown.
"""
