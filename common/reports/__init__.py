def report_run(run): return run.report
