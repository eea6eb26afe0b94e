"""Reading a store as a training read it, whatever was added, merged or taken away since."""

from collections.abc import Collection
from urllib.parse import unquote

from dfpipe.errors import StoreError
from dfpipe.extract import extract_fingerprint
from dfpipe.plan import feature_fingerprint
from dfpipe.settings import Settings
from dfpipe.shards import Table, Tables
from dfpipe.storage import storage_errors
from dfpipe.tracking import READ_BY_TRAINING, Tracking, versions_of

__all__ = ["tables_as_of", "tables_as_they_are"]


def tables_as_they_are(tables: Tables) -> Tables:
    """Return the tables that a training reads, held at the versions that they have now.

    So that all that it reads is of one moment, and can be named: what others commit meanwhile is not seen.
    """
    versions = {table: version for table in READ_BY_TRAINING if (version := tables.version(table)) is not None}
    return tables.at(versions)


def tables_as_of(tables: Tables, tracking: Tracking, run_id: str, settings: Settings) -> Tables:
    """Return the tables at the versions that a training read.

    Parameters
    ----------
    tables
        The store.
    tracking
        Where the training is on record.
    run_id
        Its run.
    settings
        What is to be trained with them; says which rows are needed.

    Raises
    ------
    ModelNotFoundError
        No such training of this store.
    StoreError
        A version, or a file of it that is needed, is there no more.
    """
    versions = versions_of(tracking, run_id, store=tables.url)
    faces = extract_fingerprint(settings.extract)
    features = {feature_fingerprint(feature, faces) for feature in settings.train.needed_features}
    for table, version in versions.items():
        # The catalog has no partitions.
        needed = {"videos": {faces}, "features": features}.get(table, {None})
        if not _is_whole(tables, table, version, needed):
            raise StoreError(
                f"version {version} of {tables.location(table).url}, which run {run_id} read, is not whole any more: "
                "`dfpipe vacuum` or `dfpipe forget` removed files of it; leave out --at to train on what is there"
            )
    return tables.at(versions)


def _is_whole(tables: Tables, table: Table, version: int, fingerprints: Collection[str | None]) -> bool:
    """Say whether every file of a version is there that has rows of these partitions."""
    newest = tables.version(table)
    if newest is None or newest < version:
        return False
    location, log = tables.location(table), tables.log(table)
    try:
        opened = log.open(version=version)
    except StoreError:
        # The table can be opened, as was just seen, but not as it was: its log does not go back that far.
        return False
    needed = {unquote(file.path) for file in log.files(opened) if file.fingerprint in fingerprints}
    with storage_errors("list", location.url):
        there = {path.removeprefix(f"{location.path}/") for path in location.fs.find(location.path)}
    return opened is not None and needed <= there
