"""What a hospital has: its shard, read and split once, prepared for the model, and watched.

Rows stay in here: the other rooms get examples, sums and counts. It never looks at a request.
"""
