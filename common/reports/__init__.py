"""The report of a run: one page that opens offline."""

from wardround.common.reports.from_run import report_run
from wardround.common.reports.page import ReportData, write_report

__all__ = ["ReportData", "report_run", "write_report"]
