"""The report as files in a folder or bucket."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dfpipe.report.faces import ExampleFace
from dfpipe.report.figure import draw_distributions
from dfpipe.report.numbers import Report
from dfpipe.report.page import to_html
from dfpipe.report.text import to_markdown
from dfpipe.shards import Tables
from dfpipe.storage import Location, open_location

if TYPE_CHECKING:
    from dfpipe.tracking import TrainingRecord

__all__ = ["report_folder", "write_report"]

PICTURE = "distributions.png"
PAGE = "report.html"


def report_folder(tables: Tables, run_id: str) -> Location:
    """Return the folder of a run's report, beside the tables."""
    return open_location(tables.url, tables.s3).child("reports", run_id)


def write_report(
    report: Report,
    folder: Location,
    *,
    training: "TrainingRecord | None" = None,
    faces: Sequence[ExampleFace] = (),
) -> list[str]:
    """Write ``report.html``, ``report.md`` and the picture that the latter shows, each whole; return their URLs.

    Parameters
    ----------
    report
        What to tell.
    folder
        Where to; files that stand there are replaced.
    training
        The training of these rows, which the page shows too; None shows none.
    faces
        Faces that the page shows.

    Raises
    ------
    StoreError
        The folder cannot be written.
    """
    picture = draw_distributions(report)
    files = {
        PAGE: to_html(report, training=training, faces=faces).encode(),
        "report.md": to_markdown(report, picture=PICTURE if picture else None).encode(),
    }
    if picture:
        files = {PICTURE: picture} | files
    for name, data in files.items():
        folder.child(name).write_bytes(data)
    return [folder.child(name).url for name in files]
