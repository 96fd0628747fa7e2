"""Files of hospitals as typed Arrow tables: CSV of any dialect, Parquet, Excel.

``read.py`` picks the reader, ``dialect.py`` is what can be set, the rest is found in the data. It
never guesses where two readings are possible: it asks for the setting. No message quotes a cell, so
no text of pyarrow's or openpyxl's is passed on.
"""
