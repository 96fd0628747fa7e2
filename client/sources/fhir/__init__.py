"""``source = "fhir"``: a folder of NDJSON files, as a bulk export of FHIR R4 or R5 leaves them.

A cohort is answered of Patient, Encounter, Condition, Observation, MedicationRequest and Procedure
(and Medication, for its codes). Files are read line by line; kept is only what the cohort asks for.
It never asks a server, never validates a whole resource, and never quotes one.
"""
