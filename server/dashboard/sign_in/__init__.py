"""Who is looking: local accounts, or an OpenID Connect provider, and a session in a cookie.

It says a visitor's name and roles and nothing else; what a role may see is in ``views.py``. No
password is kept, logged or compared but by argon2, and nothing here reaches a run.
"""
