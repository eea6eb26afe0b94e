"""Faces: finding them in pictures, telling people apart, cutting them out."""

from dfpipe.faces.clip import ClipResult, FaceClip, make_face_clip
from dfpipe.faces.crop import crop_face
from dfpipe.faces.detector import Detector, Face
from dfpipe.faces.opening import open_detector
from dfpipe.faces.quality import Quality, Rejection, measure_quality, reject
from dfpipe.faces.tracks import rank_tracks, track_faces

__all__ = [
    "ClipResult",
    "Detector",
    "Face",
    "FaceClip",
    "Quality",
    "Rejection",
    "crop_face",
    "make_face_clip",
    "measure_quality",
    "open_detector",
    "rank_tracks",
    "reject",
    "track_faces",
]
