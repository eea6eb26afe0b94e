"""Which videos there are: data set layouts, labels, identities, and what tells one content from another.

The catalog is an Arrow table from the listing to the plan (schema `CATALOG`, sorted by video_id), as a million rows are
nothing to Arrow and too much as objects.
"""

from dfpipe.catalog._attributes import count_attributes, part_of, parts
from dfpipe.catalog._find import find_videos
from dfpipe.catalog._read import Layout, read_catalog
from dfpipe.catalog._video import Label, Split, Video, VideoRef, to_videos

__all__ = [
    "Label",
    "Layout",
    "Split",
    "Video",
    "VideoRef",
    "count_attributes",
    "find_videos",
    "part_of",
    "parts",
    "read_catalog",
    "to_videos",
]
