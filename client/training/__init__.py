"""Local training and evaluation of one model on one hospital's examples.

    steps          the optimiser's steps; a batch's gradient, in pieces or whole
    batches        which examples a step sees; to the GPU one batch ahead
    objective      forward and loss: precision (autocast), distillation (the teacher's term)
    teaching       a finished model's outputs beside the targets, and the loss that takes them
    pieces         how many examples at once; halved where memory runs out
    checkpointing  blocks that compute their activations again
    compiling      torch.compile in place, or a note
    distributed    the processes that train one model together, and their end: each a ``replica``
                   that takes its ``shares`` of every batch
    evaluation     metric sums of a model on one split
    settings       what a task, or this machine (devices), can't do: said before anyone trains

Private steps (``client/privacy/steps.py``) take precision and pieces from here. It never knows of
rounds, servers or messages.
"""
