"""Who is who: keys and signatures, certificates, enrolment, and the federation's description.

Secrets come from the operating system's generator. It never sends anything.
"""
