"""From settings to a detector."""

from functools import cache

from dfpipe.faces.detector import Detector
from dfpipe.faces.mtcnn import Mtcnn
from dfpipe.settings import DetectorSettings, MtcnnSettings

__all__ = ["open_detector"]


@cache
def open_detector(settings: DetectorSettings) -> Detector:
    """Return the detector that the settings name; each process builds it once.

    Raises
    ------
    UserError
        The weights are not installed, or are not those known.
    """
    assert isinstance(settings, MtcnnSettings)
    return Mtcnn(min_face_fraction=settings.min_face_fraction, min_score=settings.min_score, follow=settings.follow)
