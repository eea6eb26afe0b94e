"""The report's page in a real browser, light, dark and printed."""

import cv2
import numpy as np
import pytest

from dfpipe.plan import plan_faces
from dfpipe.report import example_faces, make_report, to_html
from dfpipe.settings import ReportSettings, Settings
from dfpipe.shards import open_tables
from dfpipe.testing import as_catalog, finish_faces, make_video, write_catalog

pytestmark = [pytest.mark.services]

EVIL = "d/<img src=http://elsewhere.example/x onerror=alert(1)>"


@pytest.fixture
def page_file(tmp_path):
    settings = Settings(store=str(tmp_path / "store"), report=ReportSettings(faces=7))
    tables = open_tables(settings.store, settings.s3)
    videos = [make_video(f"v{n}", label="fake" if n % 3 else "real", manipulation=f"m{n % 4}") for n in range(60)]
    videos.append(make_video(EVIL, label="fake"))
    write_catalog(tables, videos)
    columns = {
        video.video_id: {"frames_wanted": 7, "frames_decoded": 7, "frames_with_face": 7 - n % 5}
        | {"frames_without_face": n % 5, "frames_with_kept_face": 7 - n % 5, "faces_found": 7, "faces_kept": 7}
        | {"num_frames": 200 + 7 * n, "codec": "h264", "frame_rate": 25.0 + n % 3, "width": 640 + 320 * (n % 3)}
        | {"duration_seconds": 8 + n / 5, "cpu_seconds": 1.5, "run_id": "run-1", "status": "ok"}
        for n, video in enumerate(videos)
    }
    columns[EVIL] = {"status": "corrupt", "reason": "<script>alert(1)</script> " * 12, "run_id": "run-1"}
    crops = {f"v{n}": cv2.imencode(".png", np.full((224, 224, 3), 4 * n, np.uint8))[1].tobytes() for n in range(60)}
    finish_faces(tables, plan_faces(as_catalog(videos), tables, settings), columns=columns, crops=crops)
    file = tmp_path / "report.html"
    file.write_text(to_html(make_report(settings), faces=example_faces(settings)))
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_and_talks_to_nobody(page_file, chromium, tmp_path, scheme):
    said, asked = [], []
    page = chromium.new_page(color_scheme=scheme, viewport={"width": 1100, "height": 900})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    page.wait_for_load_state("networkidle")
    assert (said, [url for url in asked if not url.startswith("data:")]) == ([], [page_file.as_uri()])
    assert page.get_by_text("every one of them looked at").is_visible()
    assert page.get_by_text(EVIL, exact=True).is_visible()
    pictures = "[...document.querySelectorAll('.face img')].map(one => one.naturalWidth)"
    assert page.evaluate(pictures) == [128] * 14
    ground, text = (
        page.evaluate(f"getComputedStyle(document.body).{name}.match(/[0-9]+/g).slice(0, 3).map(Number)")
        for name in ("backgroundColor", "color")
    )
    assert (sum(ground) > sum(text)) is (scheme == "light")
    # Nothing is wider than the page, on a telephone either.
    for width in (1100, 380):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.pdf(path=tmp_path / "printed.pdf").startswith(b"%PDF")
