"""De-identification of tables and texts, before anything else looks at them.

``roles.py`` finds what each column is, ``rules.py`` what becomes of it, ``columns.py`` and
``free_text.py`` do it, ``anonymity.py`` counts who still stands out.
"""
