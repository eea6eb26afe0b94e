"""Videos: facts about them, and the few frames that are asked for."""

from dfpipe.video.file import VideoFile, open_video
from dfpipe.video.info import Frame, VideoInfo
from dfpipe.video.sampling import every

__all__ = ["Frame", "VideoFile", "VideoInfo", "every", "open_video"]
