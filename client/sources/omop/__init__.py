"""``source = "omop"``: a cohort of the tables of the OMOP Common Data Model, version 5.3 or 5.4.

The SQL follows from the study's ``[cohort]`` alone, reads only, and is shown with the plan; a
hospital may put a query of its own in its place. It brings the records that a cohort asks for;
which of them count is worked out where FHIR's are (``records.py``), so that both agree.
"""
