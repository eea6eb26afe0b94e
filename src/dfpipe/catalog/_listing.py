"""One recursive listing of a data set, the same whether it lies in a folder or in a bucket."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from dfpipe.errors import CatalogError
from dfpipe.storage import Location, storage_errors

__all__ = ["File", "Listing", "list_files"]

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})


@dataclass(frozen=True, slots=True)
class File:
    """A file as the listing tells of it."""

    url: str
    """Absolute local path or ``s3://`` URL."""
    size_bytes: int
    """Size of the file."""
    modified: str
    """Nanoseconds since 1970 for a local file, ISO 8601 time for an object."""
    etag: str
    """The object store's own hash of the content, an empty string for a local file."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Every file below the root of a data set, without hidden ones."""

    root: Location
    """Where it was listed."""
    files: Mapping[str, File]
    """By path relative to the root, with ``/`` between the parts."""

    @property
    def name(self) -> str:
        """Name of the root folder or bucket."""
        return self.root.url.rstrip("/").rpartition("/")[2] or "data"

    def videos(self) -> list[str]:
        """Return the paths that end like a video's."""
        return [path for path in self.files if PurePosixPath(path).suffix.lower() in VIDEO_SUFFIXES]

    def folders(self) -> set[str]:
        """Return the names of the folders that stand directly in the root."""
        return {path.partition("/")[0] for path in self.files if "/" in path}

    def below(self, folder: str) -> "Listing":
        """Return the part of the listing that lies in a folder."""
        start = f"{folder}/"
        files = {path.removeprefix(start): file for path, file in self.files.items() if path.startswith(start)}
        return Listing(self.root.child(folder), files)

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
            raise CatalogError(
                f"{self.files[path].url} is not UTF-8 text ({error.reason}); save it as UTF-8"
            ) from error


def list_files(root: Location) -> Listing:
    """List everything below a folder or prefix, without what is hidden (a name that starts with a dot).

    Raises
    ------
    CatalogError
        A root that is missing, a file, empty, or holds a folder that may not be read.
    StoreError
        A bucket that cannot be reached or read.
    """
    with storage_errors("list", root.url):
        files = dict(_local(root.path, "", ()) if root.is_local else _remote(root))
    if not files:
        raise CatalogError(f"no files under {root.url}, expected videos; check the address, or copy the data set there")
    return Listing(root, {path: files[path] for path in sorted(files)})


def _local(folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, File]]:
    # Data sets are often put together of links to other disks, so links are followed; `above` ends a circle of them.
    try:
        status = os.stat(folder)  # noqa: PTH116 - paths stay strings: there may be millions
        with os.scandir(folder) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda one: one.name)
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
    if here in above:
        return
    for entry in found:
        if entry.is_dir():
            yield from _local(entry.path, f"{prefix}{entry.name}/", (*above, here))
        else:
            try:
                status = entry.stat()
            except FileNotFoundError:
                # A link that leads nowhere is listed too: reading it later tells the user so.
                status = entry.stat(follow_symlinks=False)
            yield prefix + entry.name, File(entry.path, status.st_size, str(status.st_mtime_ns), "")


def _remote(root: Location) -> Iterator[tuple[str, File]]:
    for path, info in root.fs.find(root.path, detail=True).items():
        if path == root.path:
            raise CatalogError(
                f"{root.url} is an object, expected the prefix of a data set; give what stands before it"
            )
        relative = path.removeprefix(f"{root.path}/")
        # Consoles make "folders" out of empty objects whose key ends in a slash.
        hidden = any(part.startswith(".") for part in relative.split("/"))
        if info["type"] == "file" and not relative.endswith("/") and not hidden:
            modified = info["LastModified"].isoformat()
            yield relative, File(root.url_of(path), info["size"], modified, info["ETag"].strip('"'))
