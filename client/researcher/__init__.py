"""The researcher's side: studies are made, signed, submitted, watched and fetched.

It never sees a hospital: all that it knows is what the server says to its role. What comes is
believed as far as the server's key, which the network's signed description names, has signed it.
"""
