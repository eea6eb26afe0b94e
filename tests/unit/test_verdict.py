"""A verdict is given only by a model whose rows this dfpipe makes, and only where there is a face."""

import numpy as np
import pytest

from dfpipe.errors import CatalogError, ModelNotFoundError
from dfpipe.extract import extract_fingerprint
from dfpipe.models import Bundle, ColumnBlock, Preprocessing
from dfpipe.plan import feature_fingerprint
from dfpipe.settings import ExtractSettings, FaceVideoSettings, LimitSettings, PixelsSettings, S3Settings
from dfpipe.verdict import judge

PIXELS = PixelsSettings(size_px=4)


class Certain:
    def __init__(self, probability):
        self.probability = probability

    def predict_proba(self, X):
        return np.tile([1 - self.probability, self.probability], (len(X), 1))


def bundle(probability=0.5, **changes):
    faces = extract_fingerprint(ExtractSettings())
    values = {
        "extract": ExtractSettings(),
        "features": (PIXELS,),
        "columns": (ColumnBlock("pixels", 0, 48),),
        "dtype": "uint8",
        "weights_sha256": "w",
        "faces_fingerprint": faces,
        "feature_fingerprints": (feature_fingerprint(PIXELS, faces),),
        "dfpipe_version": "0",
    }
    return Bundle("forest", Certain(probability), Preprocessing(**values | changes), name="m", version="1")


def verdict_on(path, **options):
    return judge(bundle(**options), str(path), limits=LimitSettings(), s3=S3Settings())


@pytest.fixture
def video(tmp_path, monkeypatch):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"any")
    from dfpipe.extract import VideoRows

    rows = VideoRows({"frames_decoded": 3, "status": "ok", "reason": ""}, faces=[{"crop_png": b""}] * 2)
    monkeypatch.setattr("dfpipe.verdict.extract_isolated", lambda *_, **__: rows)
    monkeypatch.setattr("dfpipe.verdict.decode_crop", lambda _: np.zeros((320, 320, 3), np.uint8))
    return path


def test_nothing_is_made_that_is_not_judged(video, monkeypatch):
    from dfpipe import verdict

    seen = []
    known = verdict.extract_isolated
    monkeypatch.setattr(verdict, "extract_isolated", lambda *_, **how: seen.append(how["settings"]) or known())
    settings = ExtractSettings(face_video=FaceVideoSettings())
    faces = extract_fingerprint(settings)
    verdict_on(video, extract=settings, feature_fingerprints=(feature_fingerprint(PIXELS, faces),))
    assert (seen[0].frames.keep, seen[0].face_video) == (False, None)


# The threshold itself is fake, as in every figure that was measured.
@pytest.mark.parametrize(("probability", "verdict"), [(0.49, "real"), (0.5, "fake"), (0.9, "fake")])
def test_the_score_decides(video, probability, verdict):
    judged = verdict_on(video, probability=probability)
    assert (judged.verdict, judged.score, judged.faces, judged.frames) == (verdict, pytest.approx(probability), 2, 3)
    assert judged.model == "m version 1"


def test_no_face_no_verdict(tmp_path):
    (tmp_path / "notes.txt").write_text("not a video")
    judged = verdict_on(tmp_path / "notes.txt")
    assert (judged.verdict, judged.score, judged.status) == ("unknown", None, "unsupported")


def test_a_missing_file_is_the_users_mistake(tmp_path):
    with pytest.raises(CatalogError, match="which is no file"):
        verdict_on(tmp_path / "none.mp4")


def test_the_model_is_told_how_the_rows_were_made(video, monkeypatch):
    from dfpipe import verdict

    told = []
    known = verdict.predict_proba
    monkeypatch.setattr(verdict, "predict_proba", lambda *rows, **how: told.append(how) or known(*rows, **how))
    verdict_on(video)
    assert told == [{"feature_fingerprints": bundle().preprocessing.feature_fingerprints}]


def test_a_model_of_other_code_is_refused(video):
    with pytest.raises(ModelNotFoundError, match="makes differently; run `dfpipe run`"):
        verdict_on(video, feature_fingerprints=("of another version",))
