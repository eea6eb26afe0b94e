"""A verdict is given only by a model whose rows this dfpipe makes, and only where there is a face."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from dfpipe.errors import CatalogError, ModelNotFoundError
from dfpipe.extract import extract_fingerprint
from dfpipe.models import Bundle, ColumnBlock, Preprocessing, VerdictRule
from dfpipe.models.calibration import Sigmoid
from dfpipe.plan import feature_fingerprint
from dfpipe.settings import (
    ExtractSettings,
    FaceVideoSettings,
    LimitSettings,
    PixelsSettings,
    S3Settings,
    Settings,
    TemporalSettings,
    TrainSettings,
)
from dfpipe.testing import make_row
from dfpipe.verdict import judge

PIXELS = PixelsSettings(size_px=4)
LEVELS = (10, 40)


class Certain:
    def __init__(self, probability):
        self.probability = probability

    def predict_proba(self, X):
        return np.tile([1 - self.probability, self.probability], (len(X), 1))


def bundle(probability=0.5, rule=VerdictRule(), **changes):
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
    return Bundle("forest", Certain(probability), Preprocessing(**values | changes), name="m", version="1", rule=rule)


def verdict_on(path, **options):
    return judge(bundle(**options), str(path), limits=LimitSettings(), s3=S3Settings())


@pytest.fixture
def video(tmp_path, monkeypatch):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"any")
    from dfpipe.extract import VideoRows

    faces = [make_row("faces", frame_index=30 * place, crop_png=png(level)) for place, level in enumerate(LEVELS)]
    rows = VideoRows(
        {"frames_decoded": 3, "status": "ok", "reason": "", "width": 640, "height": 360},
        # As a detector that is asked again may name them in another order.
        faces=faces[::-1],
    )
    monkeypatch.setattr("dfpipe.verdict.extract_isolated", lambda *_, **__: rows)
    return path


def png(level):
    return cv2.imencode(".png", np.full((32, 32, 3), level, np.uint8))[1].tobytes()


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


class Seeing(Certain):
    """Remembers the rows that it was shown."""

    def predict_proba(self, X):
        self.X = X
        return super().predict_proba(X)


def shown(path, features, **changes):
    faces = extract_fingerprint(ExtractSettings())
    known = bundle(
        features=features, feature_fingerprints=tuple(feature_fingerprint(one, faces) for one in features), **changes
    )
    model = Seeing(0.9)
    judged = judge(replace(known, estimator=model), str(path), limits=LimitSettings(), s3=S3Settings())
    return judged, model.X


def test_faces_are_judged_in_the_order_of_the_frames(video):
    judged, X = shown(video, (PIXELS,))
    assert X[:, 0].tolist() == [10, 40]
    assert judged.frame_scores == pytest.approx((0.9, 0.9))


def test_a_model_of_video_rows_judges_the_video_in_one_row(video):
    columns = (ColumnBlock("pixels", 0, 192), ColumnBlock("temporal", 192, 192 + 4 * 97))
    features = (PIXELS, TemporalSettings(of=PIXELS))
    judged, X = shown(video, features, rows="video", columns=columns, dtype="float32")
    # Mean, deviation, least and greatest of the pixels; then of their one change from frame to frame.
    assert X.shape == (1, columns[-1].stop)
    assert X[0, [0, 48, 96, 144]].tolist() == [25, 15, 10, 40]
    assert X[0, [192, 192 + 97, 192 + 2 * 97, 192 + 3 * 97]].tolist() == [30, 0, 30, 30]
    assert (judged.score, judged.faces, judged.frame_scores) == (pytest.approx(0.9), 2, ())


@pytest.mark.parametrize("rows", ["face", "video"])
def test_a_training_reads_and_records_the_rows_that_the_settings_ask_for(monkeypatch, rows):
    from dfpipe import training
    from tasks.train import load_rows

    settings = Settings(train=TrainSettings(features=[PIXELS], rows=rows))
    read = []
    monkeypatch.setattr("dfpipe.dataset.load_training_data", lambda *_, **how: read.append(how["rows"]))
    load_rows.fn(None, None, settings, "faces")
    recorded = []
    monkeypatch.setattr(training, "record_training", lambda _, **how: recorded.append(how["preprocessing"]))
    data = SimpleNamespace(columns=(ColumnBlock("pixels", 0, 48),), X=np.zeros((1, 48), np.uint8))
    nothing = dict.fromkeys(("split", "found", "evaluations", "fingerprint"))
    training.record(None, settings=settings, data=data, faces_fingerprint="faces", tags={}, **nothing)
    assert (read, [one.rows for one in recorded]) == ([rows], [rows])


def test_the_calibrated_score_is_held_against_the_models_own_threshold(video):
    rule = VerdictRule(calibration=Sigmoid(slope=1, intercept=-np.log(3)), threshold=0.3)
    judged = verdict_on(video, probability=0.5, rule=rule)
    # Even odds become one to three.
    assert (judged.verdict, judged.score, judged.threshold) == ("real", pytest.approx(0.5), 0.3)
    assert judged.probability == pytest.approx(0.25)
    assert verdict_on(video, probability=0.6, rule=rule).verdict == "fake"


def test_no_face_no_verdict(tmp_path):
    (tmp_path / "notes.txt").write_text("not a video")
    judged = verdict_on(tmp_path / "notes.txt")
    assert (judged.verdict, judged.score, judged.probability) == ("unknown", None, None)
    assert judged.status == "unsupported"


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
