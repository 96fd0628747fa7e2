"""Local training and evaluation of one model on one hospital's examples.

``steps`` is the loop; the other files say which examples, in which precision, how many at a time,
by how many processes. It never knows of rounds, servers or messages.
"""
