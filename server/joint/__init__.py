"""The server's part in joint procedures: who is asked when, and which letter goes to whom.

It carries what it can't read, and takes a turn of its own where the plan has a coordinator among
the parties. It never decides what a party answers.
"""
