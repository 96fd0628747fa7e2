"""Who comes to a server: its port, hospitals' connections written down, shown the plan and let in.

It knows of no round: which study a hospital is asked about is its users' to say.
"""
