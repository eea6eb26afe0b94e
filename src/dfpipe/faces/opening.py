"""From settings to a detector."""

from functools import cache

from dfpipe.faces.cascade import Cascade
from dfpipe.faces.detector import Detector
from dfpipe.faces.dlib_frontal import DlibFrontal
from dfpipe.faces.mtcnn import Mtcnn
from dfpipe.faces.retinaface import Retinaface
from dfpipe.faces.retinaface_r50 import RetinafaceR50
from dfpipe.settings import (
    CascadeSettings,
    DetectorSettings,
    DlibSettings,
    MtcnnSettings,
    RetinafaceR50Settings,
    RetinafaceSettings,
)

__all__ = ["open_detector"]


@cache
def open_detector(settings: DetectorSettings) -> Detector:
    """Return the detector that the settings name; each process builds it once.

    Raises
    ------
    UserError
        Weights or a library are not installed, or weights are not those known.
    """
    match settings:
        case MtcnnSettings():
            return Mtcnn(
                min_face_fraction=settings.min_face_fraction, min_score=settings.min_score, follow=settings.follow
            )
        case RetinafaceSettings():
            return Retinaface(longer_side_px=settings.longer_side_px, min_score=settings.min_score)
        case RetinafaceR50Settings():
            return RetinafaceR50(
                longer_side_px=settings.longer_side_px, min_score=settings.min_score, weights=settings.weights
            )
        case DlibSettings():
            return DlibFrontal(longer_side_px=settings.longer_side_px, min_score=settings.min_score)
        case CascadeSettings():
            return Cascade(min_face_fraction=settings.min_face_fraction, min_neighbours=settings.min_neighbours)
