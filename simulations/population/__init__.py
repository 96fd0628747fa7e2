"""The hospitals of a simulation: sites of a folder, a pooled shard partitioned, virtual clients.

It never trains; what it makes are hospitals like those of ``client/data``.
"""
