"""Videos: facts about them, and the few frames that are asked for."""

from dfpipe.video.file import VideoFile, open_video
from dfpipe.video.info import Frame, VideoInfo
from dfpipe.video.sampling import Sample, choose_frames, every
from dfpipe.video.source import open_source

__all__ = ["Frame", "Sample", "VideoFile", "VideoInfo", "choose_frames", "every", "open_source", "open_video"]
