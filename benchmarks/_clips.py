"""The videos that benchmarks measure on: real ones from a folder, and large ones made of them for one run."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dfpipe.catalog import VideoRef
from dfpipe.testing import shared_data

__all__ = ["below", "enlarged", "invented", "real", "video_ref"]

VIDEO_ENDINGS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".ts", ".webm"}

NUM_FRAMES = 300
"""Of an enlarged clip: ten seconds, as long as the data sets' videos."""


def below(folder: Path) -> list[Path]:
    """Return every video below a folder, sorted; the program ends where there are none."""
    clips = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_ENDINGS)
    if not clips:
        sys.exit(f"no videos below {folder}; name a folder that holds some")
    return clips


def real(data: Path | None, group: str) -> list[Path]:
    """Return the real clips of one group, sorted by name; the program ends where there are none.

    Parameters
    ----------
    data
        Folder that holds the groups; None is the one that tests use.
    group
        Name of a folder in it.
    """
    folder = data or shared_data()
    clips = sorted(path for path in (folder / group).glob("*.m*") if path.suffix != ".md") if folder else []
    if not clips:
        got = f"no clips in {folder / group}" if folder else "no folder of real clips"
        sys.exit(f"{got}; name the one that holds {group}/ with --data or DFPIPE_SHARED_DATA")
    return clips


def enlarged(clips: Sequence[Path], out: Path, *, width_px: int, height_px: int) -> list[Path]:
    """Write the clips again at another size, looped to ten seconds: H.264 with B-frames, a key frame every 250.

    The picture covers the whole new frame; what is too high or too wide for it is cut off at both sides.
    """
    made = []
    size = f"{width_px}:{height_px}"
    for clip in clips:
        made.append(out / f"{clip.stem}_{height_px}p.mp4")
        command = ["ffmpeg", "-v", "error", "-y", "-threads", "1", "-stream_loop", "-1", "-i", str(clip)]
        command += ["-vf", f"scale={size}:force_original_aspect_ratio=increase:flags=lanczos,crop={size}"]
        command += ["-frames:v", str(NUM_FRAMES), "-pix_fmt", "yuv420p", "-an"]
        command += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-threads", "1", str(made[-1])]
        subprocess.run(command, check=True)
    return made


def invented(count: int, out: Path) -> list[Path]:
    """Write drawn people with `dfpipe synth`, real and fake, and return that many of their videos."""
    command = [sys.executable, "-m", "dfpipe.cli", "synth", str(out), "--json", "--identities", str(max(2, count // 2))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return sorted(out.rglob("*.mp4"))[:count]


def video_ref(path: Path) -> VideoRef:
    """Return what extraction needs to know of a local file; its path stands for its content."""
    return VideoRef(path.stem, str(path), path.stat().st_size, f"path:{path}")
