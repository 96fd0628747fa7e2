"""A read-only page on the server, and its figures for Prometheus."""
