"""Frames, faces and crops, and the bounds on a single video."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from dfpipe.settings.section import Section

__all__ = [
    "CascadeSettings",
    "CropSettings",
    "DetectorSection",
    "DetectorSettings",
    "DlibSettings",
    "EverySampling",
    "ExtractSettings",
    "FaceVideoSettings",
    "FilterSettings",
    "FpsSampling",
    "FrameSettings",
    "IndexSampling",
    "KeyframeSampling",
    "LimitSettings",
    "MtcnnSettings",
    "PersonSettings",
    "QualitySettings",
    "RetinafaceR50Settings",
    "RetinafaceSettings",
    "SamplingSettings",
    "UniformSampling",
    "WindowSampling",
]


MOST_FRAMES = 1_000_000
"""Frames that may be asked for of one video."""


def _named(default: str) -> Discriminator:
    """Tell the members of a union apart by their ``name``, which may be left out for the default one."""

    def name_of(value: Any) -> Any:
        return value.get("name", default) if isinstance(value, dict) else getattr(value, "name", None)

    return Discriminator(name_of)


class EverySampling(Section):
    """One frame in so many, from the first on. The defaults are the seed study's protocol."""

    name: Literal["every"] = "every"
    """Strategy."""
    every_frames: int = Field(30, ge=1)
    """Take one frame in this many, starting with the first."""
    max_frames: int | None = Field(7, ge=1, le=MOST_FRAMES)
    """Take at most this many frames a video; null sets no bound."""


class UniformSampling(Section):
    """A number of frames spread evenly over the whole video."""

    name: Literal["uniform"] = "uniform"
    """Strategy."""
    num_frames: int = Field(20, ge=1, le=MOST_FRAMES)
    """Frames a video."""


class WindowSampling(Section):
    """Consecutive frames."""

    name: Literal["window"] = "window"
    """Strategy."""
    first_frame: int = Field(0, ge=0, le=2**31 - 1)
    """Position of the first."""
    num_frames: int = Field(32, ge=1, le=MOST_FRAMES)
    """How many."""


class FpsSampling(Section):
    """Frames at a steady rate, by presentation time."""

    name: Literal["fps"] = "fps"
    """Strategy."""
    frames_per_second: float = Field(1.0, gt=0, le=1000)
    """Frames a second of video."""
    max_frames: int | None = Field(300, ge=1, le=MOST_FRAMES)
    """Take at most this many frames a video; null sets no bound."""


class KeyframeSampling(Section):
    """The video's own key frames: the cheapest to decode."""

    name: Literal["keyframes"] = "keyframes"
    """Strategy."""
    max_frames: int | None = Field(300, ge=1, le=MOST_FRAMES)
    """Take at most this many frames a video; null sets no bound."""


class IndexSampling(Section):
    """Frames at given positions."""

    name: Literal["indices"] = "indices"
    """Strategy."""
    indices: list[Annotated[int, Field(ge=0, le=2**31 - 1)]] = Field(min_length=1, max_length=MOST_FRAMES)
    """Positions in presentation order, from 0; those that a video is too short for are missing."""


SamplingSettings = Annotated[
    Annotated[EverySampling, Tag("every")]
    | Annotated[UniformSampling, Tag("uniform")]
    | Annotated[WindowSampling, Tag("window")]
    | Annotated[FpsSampling, Tag("fps")]
    | Annotated[KeyframeSampling, Tag("keyframes")]
    | Annotated[IndexSampling, Tag("indices")],
    _named("every"),
]


class DetectorSection(Section):
    """What all detectors have."""

    gives_landmarks: ClassVar[bool] = True
    """Whether a face comes with its five landmarks."""


class MtcnnSettings(DetectorSection):
    """Three small networks on ONNX Runtime, with the weights of the mtcnn package."""

    name: Literal["mtcnn"] = "mtcnn"
    """Detector."""
    min_score: float = Field(0.9, ge=0, le=1)
    """A face counts when the detector's score is above this."""
    min_face_fraction: float = Field(1 / 15, gt=0, le=1)
    """Side of the smallest face looked for, as a share of the picture's shorter side."""
    follow: bool = False
    """Look first only around the faces of the frame before, which is faster; the whole frame is searched when one of
    them is not found there. A person who joins while all others stay in place is missed until then."""


class RetinafaceSettings(DetectorSection):
    """RetinaFace with MobileNetV2 on ONNX Runtime; needs `dfpipe models fetch retinaface` once."""

    name: Literal["retinaface"] = "retinaface"
    """Detector."""
    min_score: float = Field(0.9, ge=0, le=1)
    """A face counts when the detector's score is above this."""
    longer_side_px: int = Field(320, ge=64, le=4096)
    """Pictures are shrunk so that their longer side is at most this; a face should then still be 16 pixels wide."""


class RetinafaceR50Settings(DetectorSection):
    """RetinaFace with ResNet-50, by the ONNX file of the retina-face package."""

    name: Literal["retinaface-r50"] = "retinaface-r50"
    """Detector."""
    min_score: float = Field(0.9, ge=0, le=1)
    """A face counts when the detector's score is above this."""
    longer_side_px: int = Field(1024, ge=64, le=4096)
    """Pictures are shrunk so that their longer side is at most this."""
    weights: Path | None = None
    """ONNX file with the weights; null is where the retina-face package keeps the one that it downloads."""


class DlibSettings(DetectorSection):
    """dlib's frontal detector with 68 landmarks; needs the extra dlib and `dfpipe models fetch dlib` once.

    The landmarks were learned from iBUG 300-W, whose licence excludes commercial use.
    """

    name: Literal["dlib"] = "dlib"
    """Detector."""
    min_score: float = 0.0
    """A face counts when its distance from the detector's decision boundary is above this; no probability."""
    longer_side_px: int = Field(800, ge=64, le=4096)
    """Pictures are scaled, up or down, so that their longer side is this; faces below about 60 pixels there are not
    seen."""


class CascadeSettings(DetectorSection):
    """OpenCV's cascade of Haar features, the plain baseline without landmarks.

    Needs `dfpipe models fetch cascade` once.
    """

    gives_landmarks: ClassVar[bool] = False
    name: Literal["cascade"] = "cascade"
    """Detector."""
    min_neighbours: int = Field(5, ge=1)
    """A face counts when a raw hit has at least this many others around it; its score is the number of all of them."""
    min_face_fraction: float = Field(1 / 15, gt=0, le=1)
    """Side of the smallest face looked for, as a share of the picture's shorter side."""


DetectorSettings = Annotated[
    Annotated[MtcnnSettings, Tag("mtcnn")]
    | Annotated[RetinafaceSettings, Tag("retinaface")]
    | Annotated[RetinafaceR50Settings, Tag("retinaface-r50")]
    | Annotated[DlibSettings, Tag("dlib")]
    | Annotated[CascadeSettings, Tag("cascade")],
    _named("mtcnn"),
]


class PersonSettings(Section):
    """Whose faces are kept, where a video shows several people."""

    which: Literal["most_confident", "largest", "all"] = "most_confident"
    """The person with the highest sum of scores over the sampled frames, the one with the largest sum of areas, or
    everybody."""
    min_overlap: float = Field(0.1, ge=0, le=1)
    """Faces of two frames are one person's when their boxes overlap by more than this (intersection over union)."""


class CropSettings(Section):
    """How a face is cut out."""

    shape: Literal["box", "square", "aligned"] = "box"
    """box: the box itself, stretched to a square; square: grown to a square first; aligned: turned, scaled and moved so
    that eyes, nose and mouth lie where they lie in every other aligned crop."""
    size_px: int = Field(320, ge=16, le=2048)
    """Width and height of a stored crop in pixels."""
    margin_fraction: float = Field(0.0, ge=0, le=2)
    """Added on each side of the box, as a share of the box's width and height."""
    interpolation: Literal["auto", "nearest", "linear", "cubic", "area", "lanczos"] = "auto"
    """How pixels are resampled; auto averages areas when shrinking and is linear when growing."""


class QualitySettings(Section):
    """Bounds on the quality of a face; one outside them is counted in the ledger and not kept. Null sets no bound."""

    min_size_px: float | None = Field(None, gt=0)
    """Shortest side of the box in pixels of the full frame."""
    min_sharpness: float | None = Field(None, gt=0)
    """Least variance of the Laplacian."""
    min_brightness: float | None = Field(None, ge=0, le=255)
    """Least mean of the grey values, 0 to 255."""
    max_brightness: float | None = Field(None, ge=0, le=255)
    """Greatest mean of the grey values, 0 to 255."""
    max_yaw_degrees: float | None = Field(None, ge=0, le=90)
    """Greatest turn of the head to either side; detectors without landmarks know none."""
    allow_border: bool = True
    """Keep faces whose box touches the border of the picture."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        least, most = self.min_brightness, self.max_brightness
        if least is not None and most is not None and least > most:
            raise ValueError(
                f"extract.quality.min_brightness is {least:g} and max_brightness is {most:g}; no face fits between"
            )
        return self


class FilterSettings(Section):
    """Bounds on the videos that are looked at; one outside them ends as filtered. Null sets no bound."""

    min_frames: int | None = Field(None, ge=1)
    """Fewest frames in the video."""
    max_frames: int | None = Field(None, ge=1)
    """Most frames in the video."""
    min_frame_rate: float | None = Field(None, gt=0)
    """Lowest average rate in frames per second."""
    max_frame_rate: float | None = Field(None, gt=0)
    """Highest average rate in frames per second."""
    min_width_px: int | None = Field(None, ge=1)
    """Least width as shown."""
    max_width_px: int | None = Field(None, ge=1)
    """Greatest width as shown."""
    min_duration_seconds: float | None = Field(None, gt=0)
    """Shortest duration."""
    max_duration_seconds: float | None = Field(None, gt=0)
    """Longest duration."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("frames", "frame_rate", "width_px", "duration_seconds"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if least is not None and most is not None and least > most:
                raise ValueError(
                    f"extract.filter.min_{name} is {least} and max_{name} is {most}; no video fits between"
                )
        return self


class FrameSettings(Section):
    """Whether whole frames are stored beside the faces."""

    keep: bool = True
    """Store every sampled frame as JPEG."""
    jpeg_quality: int = Field(95, ge=1, le=100)
    """JPEG quality of stored frames."""


class FaceVideoSettings(Section):
    """A clip of the face alone, for models that look at sequences."""

    size_px: int = Field(112, ge=16, le=1024, multiple_of=2)
    """Width and height in pixels."""
    max_frames: int = Field(380, ge=1, le=10_000)
    """Consecutive frames from the first on; those without a face are shown whole, resized."""


class ExtractSettings(Section):
    """Everything that decides what the faces stage writes; its hash is part of the stage fingerprint."""

    filter: FilterSettings = FilterSettings()
    """Which videos."""
    sampling: SamplingSettings = EverySampling()
    """Which frames."""
    min_frames: int = Field(1, ge=1)
    """A video of which fewer of those frames than this can be decoded ends as few_frames."""
    detector: DetectorSettings = MtcnnSettings()
    """How faces are found."""
    person: PersonSettings = PersonSettings()
    """Whose faces are kept."""
    quality: QualitySettings = QualitySettings()
    """Which of their faces are good enough."""
    crop: CropSettings = CropSettings()
    """How they are cut out."""
    frames: FrameSettings = FrameSettings()
    """Whether whole frames are kept."""
    face_video: FaceVideoSettings | None = None
    """Also write a clip of the face alone; null writes none."""
    decode_check: bool = False
    """Decode every frame of every video; one with a damaged frame ends as corrupt."""

    def without_places(self) -> Self:
        """Return the same settings without where files lie on one machine: what they hold is known by its hash."""
        if not isinstance(self.detector, RetinafaceR50Settings):
            return self
        return self.model_copy(update={"detector": self.detector.model_copy(update={"weights": None})})

    @model_validator(mode="after")
    def _can_align(self) -> Self:
        if self.crop.shape == "aligned" and not self.detector.gives_landmarks:
            raise ValueError(
                f"extract.crop.shape aligned needs landmarks, which detector {self.detector.name} does not give;"
                " choose another detector, or shape box or square"
            )
        return self


class LimitSettings(Section):
    """Bounds checked before and while a video is decoded; what passes them is a ledger row, not an error."""

    max_bytes: int = Field(8 * 2**30, ge=1)
    """Largest file in bytes."""
    max_pixels: int = Field(4096 * 4096, ge=1)
    """Most pixels in one frame."""
    max_frames: int = Field(2_000_000, ge=1)
    """Most frames in one video."""
    max_streams: int = Field(32, ge=1)
    """Most streams (pictures, sound, subtitles) in one file."""
    max_duration_seconds: float = Field(4 * 3600, gt=0)
    """Longest video in seconds."""
    timeout_seconds: float = Field(300, gt=0)
    """Longest time that one video may take."""
    max_memory_bytes: int = Field(2 * 2**30, ge=2**28)
    """Most memory that the work on one video may take."""
