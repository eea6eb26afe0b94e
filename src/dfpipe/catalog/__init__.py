"""Which videos there are: data set layouts, labels, identities, and what tells one content from another."""

from dfpipe.catalog._read import Layout, read_catalog
from dfpipe.catalog._video import Label, Split, Video, VideoRef

__all__ = ["Label", "Layout", "Split", "Video", "VideoRef", "read_catalog"]
