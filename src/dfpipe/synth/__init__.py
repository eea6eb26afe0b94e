"""Made videos: drawn people and fakes of them, and pseudo-fakes of anybody's own real videos."""

from dfpipe.synth.dataset import DEFAULT_STRENGTH, SynthPlan, write_dataset
from dfpipe.synth.layouts import Layout
from dfpipe.synth.pseudo import write_pseudo_fakes
from dfpipe.synth.workshop import Skipped, SynthReport

__all__ = [
    "DEFAULT_STRENGTH",
    "Layout",
    "Skipped",
    "SynthPlan",
    "SynthReport",
    "write_dataset",
    "write_pseudo_fakes",
]
