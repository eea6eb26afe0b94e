"""Videos in a bucket, told as those on a disk are."""

import pytest

from dfpipe.probe import probe_video
from dfpipe.settings import LimitSettings
from dfpipe.storage import open_location
from dfpipe.synth import write_dataset

pytestmark = pytest.mark.services


def test_a_video_in_a_bucket(bucket, s3, tmp_path):
    write_dataset(tmp_path, num_identities=1, num_frames=(12, 12), heights=(360,), jobs=1)
    file = min(tmp_path.rglob("*.mp4"))
    open_location(f"{bucket}/clip.mp4", s3).write_bytes(file.read_bytes())
    found = probe_video(f"{bucket}/clip.mp4", limits=LimitSettings(), s3=s3, check=True)
    local = probe_video(str(file), limits=LimitSettings(), s3=s3, check=True)
    assert (found.info, found.damaged_frames, found.fault) == (local.info, 0, None)
    missing = probe_video(f"{bucket}/nowhere.mp4", limits=LimitSettings(), s3=s3)
    assert missing.fault == "unreachable"
