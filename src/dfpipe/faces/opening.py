"""From settings to a detector."""

from functools import cache

from dfpipe.faces.detector import Detector
from dfpipe.faces.mtcnn import Mtcnn
from dfpipe.faces.retinaface import Retinaface
from dfpipe.faces.retinaface_r50 import RetinafaceR50
from dfpipe.settings import DetectorSettings, MtcnnSettings, RetinafaceR50Settings, RetinafaceSettings

__all__ = ["open_detector"]


@cache
def open_detector(settings: DetectorSettings) -> Detector:
    """Return the detector that the settings name; each process builds it once.

    Raises
    ------
    UserError
        The weights are not here, or are not those known.
    """
    match settings:
        case MtcnnSettings():
            return Mtcnn(min_face_fraction=settings.min_face_fraction, min_score=settings.min_score)
        case RetinafaceSettings():
            return Retinaface(longer_side_px=settings.longer_side_px, min_score=settings.min_score)
        case RetinafaceR50Settings():
            return RetinafaceR50(
                longer_side_px=settings.longer_side_px, min_score=settings.min_score, weights=settings.weights
            )
    raise NotImplementedError(settings.name)
