"""One recursive listing of a data set, the same whether it lies in a folder or in a bucket."""

import os
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.catalog._batches import as_table, each
from dfpipe.errors import CatalogError
from dfpipe.storage import Location, storage_errors

__all__ = ["FILES", "Listing", "list_files"]

VIDEO = r"(?i)[^/]\.(avi|m4v|mkv|mov|mp4|mpeg|mpg|webm|wmv)$"
"""What the path of a video ends like."""

FILES = pa.schema(
    [
        # Relative to the root, with / between the parts.
        pa.field("path", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        # Nanoseconds since 1970 for a local file, ISO 8601 time for an object.
        pa.field("modified", pa.string(), nullable=False),
        # The object store's own hash of the content, an empty string for a local file.
        pa.field("etag", pa.string(), nullable=False),
    ]
)
"""A file as the listing tells of it."""

File = tuple[str, int, str, str]
"""A row of `FILES`."""


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """Every file below the root of a data set, without hidden ones; a table, as there may be millions."""

    root: Location
    """Where it was listed."""
    files: pa.Table
    """With the columns of `FILES`, sorted by path."""

    @property
    def name(self) -> str:
        """Name of the root folder or bucket."""
        return self.root.url.rstrip("/").rpartition("/")[2] or "data"

    def __contains__(self, path: str) -> bool:
        """Tell whether there is a file of this path; looks through all, so for a few: `paths` is for many."""
        return bool(pc.index(self.files["path"], path).as_py() >= 0)

    def url(self, path: str) -> str:
        """Return the absolute path or ``s3://`` URL of a file."""
        return f"{self.root.url.rstrip('/')}/{path}"

    def paths(self) -> frozenset[str]:
        """Return the paths of all files, for a layout that has to look up many of them."""
        return frozenset(each(self.files["path"]))

    def named(self, pattern: str) -> pa.ChunkedArray:
        """Return the paths in which a regular expression is found, sorted."""
        paths = self.files["path"]
        return paths.filter(pc.match_substring_regex(paths, pattern))

    def videos(self) -> pa.ChunkedArray:
        """Return the paths that end like a video's, sorted."""
        return self.named(VIDEO)

    def top(self) -> list[str]:
        """Return the names that stand directly in the root, sorted; those of folders end with a slash."""
        names = pc.replace_substring_regex(self.files["path"], r"(?s)/.*", "/", max_replacements=1)
        return sorted(pc.unique(names).to_pylist())

    def folders(self) -> set[str]:
        """Return the names of the folders that stand directly in the root."""
        return {name.removesuffix("/") for name in self.top() if name.endswith("/")}

    def below(self, folder: str) -> "Listing":
        """Return the part of the listing that lies in a folder."""
        paths = self.files["path"]

        def first_from(text: str) -> int:
            return bisect_left(range(len(paths)), text, key=lambda row: str(paths[row].as_py()))

        # No character stands between the slash and the nought.
        start, stop = first_from(f"{folder}/"), first_from(f"{folder}0")
        inside = self.files.slice(start, stop - start)
        relative = pc.utf8_slice_codeunits(inside["path"], len(folder) + 1)
        return Listing(self.root.child(folder), inside.set_column(0, FILES.field("path"), relative))

    def text(self, path: str) -> str:
        """Read a small text file of the data set.

        Raises
        ------
        CatalogError
            A file that is not UTF-8.
        """
        try:
            return self.root.child(path).read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise CatalogError(f"{self.url(path)} is not UTF-8 text ({error.reason}); save it as UTF-8") from error


def list_files(root: Location) -> Listing:
    """List everything below a folder or prefix, without what is hidden (a name that starts with a dot).

    Raises
    ------
    CatalogError
        A root that is missing, a file, empty, or holds a folder that may not be read, or a video whose name is no text.
    StoreError
        A bucket that cannot be reached or read.
    """
    with storage_errors("list", root.url):
        files = as_table(_local(root.path, "", ()) if root.is_local else _remote(root), FILES)
    if not files.num_rows:
        raise CatalogError(f"no files under {root.url}, expected videos; check the address, or copy the data set there")
    return Listing(root, files.sort_by("path"))


def _local(folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[File]:
    # Data sets are often put together of links to other disks, so links are followed; `above` ends a circle of them.
    try:
        status = os.stat(folder)  # noqa: PTH116 - paths stay strings: there may be millions
        entries = os.scandir(folder)
    except FileNotFoundError as error:
        raise CatalogError(f"no folder {folder}; check the path, or the mount it should be on") from error
    except NotADirectoryError as error:
        raise CatalogError(
            f"{folder} is a file, expected the folder of a data set; give the folder it is in"
        ) from error
    except PermissionError as error:
        raise CatalogError(
            f"cannot read folder {folder}: permission denied; let this user read it, or take it out of the data set"
        ) from error
    here = (status.st_dev, status.st_ino)
    folders = []
    with entries:
        if here in above:
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif _is_text(entry):
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    # A link that leads nowhere is listed too: reading it later tells the user so.
                    status = entry.stat(follow_symlinks=False)
                yield prefix + entry.name, status.st_size, str(status.st_mtime_ns), ""
    for name in sorted(folders):
        yield from _local(os.path.join(folder, name), f"{prefix}{name}/", (*above, here))  # noqa: PTH118


def _is_text(entry: os.DirEntry[str]) -> bool:
    """Tell whether a file's path is UTF-8, as tables hold it; one that is not can be done without unless it is a video.

    Raises
    ------
    CatalogError
        A video with such a name.
    """
    try:
        entry.path.encode()
    except UnicodeEncodeError as error:
        if pc.match_substring_regex(ascii(entry.path)[1:-1], VIDEO).as_py():
            raise CatalogError(
                f"the name of {entry.path!a} is not UTF-8; rename it, or take it out of the data set"
            ) from error
        return False
    return True


def _remote(root: Location) -> Iterator[File]:
    bucket, _, key = root.path.partition("/")
    start = f"{key}/" if key else ""
    page: dict[str, Any] = {}
    is_empty, more = True, True
    while more:
        # Page by page: a file system's own `find` would hold a dictionary for each of a million objects.
        token = {"ContinuationToken": page["NextContinuationToken"]} if page else {}
        page = root.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=start, **token)
        more = bool(page.get("IsTruncated"))
        for one in page.get("Contents", ()):
            is_empty = False
            path = one["Key"].removeprefix(start)
            # Consoles make "folders" out of empty objects whose key ends in a slash.
            if path and not path.endswith("/") and not any(part.startswith(".") for part in path.split("/")):
                yield path, one["Size"], one["LastModified"].isoformat(), one["ETag"].strip('"')
    if is_empty and key and root.fs.isfile(root.path):
        raise CatalogError(f"{root.url} is an object, expected the prefix of a data set; give what stands before it")
