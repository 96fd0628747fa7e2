"""Many runs of one configuration: sweeps over a grid, and a search for the best settings.

Every run is one of ``simulations/run``, in a folder of its own. It never trains by itself.
"""
