"""The report of a run: one page that opens offline."""

from wardround.common.run.report.from_run import report_run
from wardround.common.run.report.page import ReportData, write_report

__all__ = ["ReportData", "report_run", "write_report"]
