"""The results of a run that is complete, for those that took part and who asked for it.

Made once, of the run directory: the model, the plan, and of figures only what is a sum over
hospitals. What the server knows of one hospital (sizes, failures, refusals, claims, figures of a
plain run) is in no package, and no path of this machine is. It never decides who gets one.
"""
