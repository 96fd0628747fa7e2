"""Many runs of one configuration: sweeps over a grid, and a search for the best settings."""
