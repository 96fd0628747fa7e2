"""``wardround init --data``: looks at a researcher's data and writes a configuration that runs.

``found.py`` reads, ``seen.py`` puts hospitals side by side, ``roles.py`` and ``target.py`` decide,
``differ.py`` tells what doesn't fit, ``text.py`` writes, ``show.py`` shows, ``check.py`` tries it
as a simulation would. It changes no data, overwrites no file, and shows no cell but names of
categories that enough rows share.
"""
