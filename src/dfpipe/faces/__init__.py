"""Faces: finding them in pictures and cutting them out."""

from dfpipe.faces.crop import crop_face
from dfpipe.faces.detector import Detector, Face
from dfpipe.faces.opening import open_detector

__all__ = [
    "Detector",
    "Face",
    "crop_face",
    "open_detector",
]
