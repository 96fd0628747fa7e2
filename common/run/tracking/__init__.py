"""A run's figures in MLflow, TensorBoard or Weights & Biases: what its report shows, by round.

Only sums and means over hospitals go there, never one hospital's. A round is there once, however
often a run is brought; no library of these is imported before it is asked for.
"""
