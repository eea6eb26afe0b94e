import cv2
import numpy as np
import pytest

from dfpipe.errors import StoreError
from dfpipe.report import draw_distributions, make_report, report_folder, write_report
from dfpipe.storage import open_location


def test_a_folder_with_text_and_picture(store, settings, tables):
    folder = report_folder(tables, "run-7")
    urls = write_report(make_report(settings), folder)
    assert urls == [
        f"{settings.store}/reports/run-7/{name}" for name in ("distributions.png", "report.html", "report.md")
    ]
    text, png = folder.child("report.md").read_bytes().decode(), folder.child("distributions.png").read_bytes()
    assert "](distributions.png)" in text
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[:2] == (726, 1100)
    assert picture[0, 0].tolist() == [255, 255, 255]


def test_both_labels_are_drawn_each_in_its_colour(store, settings):
    picture = cv2.imdecode(np.frombuffer(draw_distributions(make_report(settings)), np.uint8), cv2.IMREAD_COLOR)
    for rgb in ((0x1F, 0x77, 0xB4), (0xD9, 0x5F, 0x02)):
        assert np.count_nonzero((picture == rgb[::-1]).all(axis=2)) > 200


def test_without_videos_there_is_no_picture(settings, tmp_path):
    report = make_report(settings)
    assert draw_distributions(report) is None
    assert write_report(report, open_location(tmp_path / "out", settings.s3)) == [
        str(tmp_path / "out" / name) for name in ("report.html", "report.md")
    ]


def test_a_folder_that_cannot_be_written(store, settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        write_report(make_report(settings), open_location(tmp_path / "file" / "x", settings.s3))
