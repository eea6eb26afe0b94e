"""A verdict on one video: the champion's score, and how much of the video stands behind it."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dfpipe.catalog import VideoRef
from dfpipe.crops import as_faces, face_table
from dfpipe.dataset import describe_videos, join_features
from dfpipe.errors import CatalogError, ModelNotFoundError, VideoStatus
from dfpipe.extract import extract_fingerprint
from dfpipe.features import block_names, compute
from dfpipe.isolation import extract_isolated
from dfpipe.models import Bundle, predict_proba
from dfpipe.plan import feature_fingerprint
from dfpipe.settings import FrameSettings, LimitSettings, S3Settings
from dfpipe.storage import open_location, storage_errors

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a model says of a video."""

    video: str
    """The video as it was named."""
    verdict: Literal["real", "fake", "unknown"]
    """The side of the threshold on which the probability lies; unknown where there is no face to judge."""
    probability: float | None
    """Probability of fake: the score, calibrated. None where there is no face."""
    threshold: float
    """Called fake from this probability on; chosen on validation videos when the model was trained."""
    score: float | None
    """Probability of fake as the model gives it, mean over the faces found where it judges faces; None where there is
    none."""
    frame_scores: tuple[float, ...]
    """Probability of fake of each face, in the order of the frames; empty where the model judges whole videos."""
    frames: int
    """Frames looked at."""
    faces: int
    """Faces in them that the score is of."""
    status: VideoStatus
    """How extraction ended."""
    reason: str
    """Why, where it is not ``ok``."""
    model: str
    """Name and version of the model."""


def judge(bundle: Bundle, url: str, *, limits: LimitSettings, s3: S3Settings) -> Verdict:
    """Extract a video exactly as the model's training data were, and score it.

    Parameters
    ----------
    bundle
        Model with its preprocessing.
    url
        Local path or ``s3://`` URL of the video.
    limits
        Bounds on the video.
    s3
        How to reach ``s3://`` URLs.

    Raises
    ------
    CatalogError
        There is no such file.
    ModelNotFoundError
        This dfpipe makes other rows of a video than the one that trained the model.
    StoreError
        The video's bytes cannot be reached.
    """
    made_by = _check_preprocessing(bundle)
    location = open_location(url, s3)
    with storage_errors("read", location.url):
        if not location.fs.isfile(location.path):
            raise CatalogError(f"got {url}, which is no file; give the path or s3:// URL of a video")
        size_bytes = int(location.fs.size(location.path))
    name = hashlib.blake2b(location.url.encode(), digest_size=8).hexdigest()
    preprocessing = bundle.preprocessing
    # Only crops are judged.
    settings = preprocessing.extract.model_copy(update={"frames": FrameSettings(keep=False), "face_video": None})
    rows = extract_isolated(
        VideoRef(name, location.url, size_bytes, content_id=""), settings=settings, limits=limits, s3=s3
    )
    scores: list[float] = []
    if rows.faces:
        size_wh = (rows.video["width"], rows.video["height"])
        faces = as_faces(
            face_table(rows.faces),
            frame_wh={(row["video_id"], row["content_id"]): size_wh for row in rows.faces},
        )
        blocks = [compute(faces, feature) for feature in preprocessing.features]
        if preprocessing.rows == "video":
            blocks = [describe_videos(block, faces.video) for block in blocks]
        X, _ = join_features(blocks, block_names(preprocessing.features))
        scores = predict_proba(bundle, X, feature_fingerprints=made_by).tolist()
    score = float(np.mean(scores)) if scores else None
    probability = float(bundle.rule.apply(np.array(score))) if score is not None else None
    threshold = bundle.rule.threshold
    verdict: Literal["real", "fake", "unknown"] = (
        "unknown" if probability is None else "fake" if probability >= threshold else "real"
    )
    return Verdict(
        video=url,
        verdict=verdict,
        probability=probability,
        threshold=threshold,
        score=score,
        frame_scores=tuple(scores) if preprocessing.rows == "face" else (),
        frames=rows.video["frames_decoded"],
        faces=len(rows.faces),
        status=rows.video["status"],
        reason=rows.video["reason"],
        model=f"{bundle.name} version {bundle.version}",
    )


def _check_preprocessing(bundle: Bundle) -> tuple[str, ...]:
    """Return the fingerprints of the features that this dfpipe makes, once they are seen to be the model's."""
    preprocessing = bundle.preprocessing
    faces = extract_fingerprint(preprocessing.extract)
    features = tuple(feature_fingerprint(feature, faces) for feature in preprocessing.features)
    if features != preprocessing.feature_fingerprints:
        raise ModelNotFoundError(
            f"{bundle.name} version {bundle.version} was trained by dfpipe {preprocessing.dfpipe_version}, whose faces "
            "or features this version makes differently; run `dfpipe run` to train a model that fits"
        )
    return features
