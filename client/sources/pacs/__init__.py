"""Images from a PACS: what a hospital asks of its archive, and how it comes to a folder.

Each object is de-identified in memory, by the imaging task's own rules, before it is written: no
file that says who a patient is is ever on this disk. Nothing here looks at pixels before that, and
no message, log line or error quotes an identifier or what the archive said.
"""
