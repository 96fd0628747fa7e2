"""The server's end of the connections: the port, who may connect, the grid of hospitals.

It never decides what is asked, and it opens no reply.
"""
