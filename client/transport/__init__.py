"""The client's end of the connection: it dials out, comes back for ever, and says what is wrong.

It never accepts a connection, and never looks into a message.
"""
