"""Before anything runs: the authority, the server's folder, the hospitals' kits, and their renewal.

It never makes a key that a hospital could make itself, unless asked to.
"""
