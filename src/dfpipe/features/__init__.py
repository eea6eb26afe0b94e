"""What models see: arrays of crops in, arrays of numbers out."""

from dfpipe.features._compute import columns, compute, feature_version

__all__ = ["columns", "compute", "feature_version"]
