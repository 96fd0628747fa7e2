"""A finished model answers requests at its hospital: JSON, FHIR RiskAssessment, CDS Hooks.

    model       a model that was checked, copied once and is never read again
    asked       bodies to columns, typed by the model's schema
    app         who is answered what; guard, door: who is let in, and how much at once
    fhir, cds   the two standards; patients: features of FHIR resources
    metrics     counts of requests, inputs and scores
    listening   where it listens, and what must be so before others reach it

It holds rows for as long as it answers, writes none, and neither an answer, an error, a log line
nor a metric repeats one. It asks nobody: what a hook didn't bring is not fetched.
"""
