"""What a store's ledger says: videos, frames and faces accounted for, losses compared, throughput and cost."""

from dfpipe.report.faces import ExampleFace, example_faces
from dfpipe.report.figure import draw_distributions
from dfpipe.report.losses import Losses, check_losses, percent
from dfpipe.report.numbers import Report, make_report
from dfpipe.report.page import to_html
from dfpipe.report.text import ReportSection, escape_markdown, printable, report_sections, to_markdown
from dfpipe.report.writing import report_folder, write_report

__all__ = [
    "ExampleFace",
    "Losses",
    "Report",
    "ReportSection",
    "check_losses",
    "draw_distributions",
    "escape_markdown",
    "example_faces",
    "make_report",
    "percent",
    "printable",
    "report_folder",
    "report_sections",
    "to_html",
    "to_markdown",
    "write_report",
]
