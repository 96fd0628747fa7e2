"""The report of a run: one page that opens offline."""

from wardround.common.run.report.from_run import final_lines, report_run
from wardround.common.run.report.page import ReportData, write_report

__all__ = ["ReportData", "final_lines", "report_run", "write_report"]
