"""What models see: arrays of faces in, arrays of numbers out. docs/features.md tells what each set looks at."""

from dfpipe.features._compute import block_names, columns, compute, feature_version
from dfpipe.features.faces import Faces
from dfpipe.features.residual_map import stack_maps

__all__ = ["Faces", "block_names", "columns", "compute", "feature_version", "stack_maps"]
