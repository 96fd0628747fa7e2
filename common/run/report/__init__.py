"""The report of a run: one page that opens offline. ``from_run`` makes it of a run's directory,
``page`` writes it."""
