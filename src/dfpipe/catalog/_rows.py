"""Comma-separated tables whose rows speak of videos."""

import csv
import io
import posixpath
from collections.abc import Iterator, Sequence, Set

from dfpipe.errors import CatalogError

__all__ = ["find_video", "read_columns", "read_rows"]


def read_columns(text: str) -> list[str]:
    """Return the names in the first line of a table, in small letters."""
    return _columns(csv.DictReader(io.StringIO(text, newline="")))


def read_rows(text: str, url: str, *, needed: Sequence[str]) -> Iterator[tuple[dict[str, str], int]]:
    """Yield the rows of a table as dictionaries, each with the number of its line.

    Parameters
    ----------
    text
        What the file holds.
    url
        The file, for messages.
    needed
        Columns that must be there.

    Raises
    ------
    CatalogError
        A text that is no table, or lacks a column that is needed.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="")
    try:
        columns = _columns(reader)
        reader.fieldnames = columns
        if not set(needed) <= set(columns):
            raise CatalogError(
                f"{url} has columns {', '.join(columns)}, expected {' and '.join(needed)}, separated by commas"
            )
        for row in reader:
            yield {name: value.strip() for name, value in row.items() if isinstance(value, str)}, reader.line_num
    except csv.Error as error:
        raise CatalogError(f"{url} line {reader.line_num} is not comma-separated text: {error}; mend it") from error


def find_video(video: str, there: Set[str]) -> str | None:
    """Return the path below the root of a video that a table names, None where there is none."""
    paths = (posixpath.normpath(video), posixpath.normpath(f"videos/{video}"))
    return next((path for path in paths if path in there), None)


def _columns(reader: "csv.DictReader[str]") -> list[str]:
    return [(name or "").strip().lower() for name in reader.fieldnames or []]
