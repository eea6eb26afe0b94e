"""The report as files in a folder or bucket."""

from dfpipe.report.figure import draw_distributions
from dfpipe.report.numbers import Report
from dfpipe.report.text import to_markdown
from dfpipe.shards import Tables
from dfpipe.storage import Location, open_location

__all__ = ["report_folder", "write_report"]

PICTURE = "distributions.png"


def report_folder(tables: Tables, run_id: str) -> Location:
    """Return the folder of a run's report, beside the tables."""
    return open_location(tables.url, tables.s3).child("reports", run_id)


def write_report(report: Report, folder: Location) -> list[str]:
    """Write ``report.md`` and the picture that it shows, each whole; return their URLs.

    Raises
    ------
    StoreError
        The folder cannot be written.
    """
    picture = draw_distributions(report)
    files = {"report.md": to_markdown(report, picture=PICTURE if picture else None).encode()}
    if picture:
        files = {PICTURE: picture} | files
    for name, data in files.items():
        folder.child(name).write_bytes(data)
    return [folder.child(name).url for name in files]
