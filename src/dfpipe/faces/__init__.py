"""Faces: finding them in pictures, telling people apart, cutting them out."""

from dfpipe.faces.crop import crop_face
from dfpipe.faces.detector import Detector, Face
from dfpipe.faces.opening import open_detector
from dfpipe.faces.tracks import rank_tracks, track_faces

__all__ = [
    "Detector",
    "Face",
    "crop_face",
    "open_detector",
    "rank_tracks",
    "track_faces",
]
