"""What a hospital has of a study when it is over: model, report, its own figures, what left it.

Taken from the server as a signed package, completed at home: personal layers are joined, the model
is evaluated on the hospital's own held-out rows, and what left the hospital is read out of its own
audit log. Nothing of that is ever sent: an answer says that a message was taken, before and after.
"""
