"""A hospital's differential privacy: its ledger, what a round may spend, clipped and noised steps.

The ledger is written before anything is trained. It never takes a number of the server's for its
own: what is spent is worked out from the accepted settings.
"""
