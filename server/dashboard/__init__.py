"""A read-only page on the server, and its figures for Prometheus.

It shows the board of ``server/display``; it never changes a run and holds nothing of a patient.
"""
