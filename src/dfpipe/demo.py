"""The demo's own data set and settings: small enough for a laptop, complete enough to show every stage."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from dfpipe import progress
from dfpipe.engine import usable_cores
from dfpipe.synth import write_dataset

__all__ = ["Demo", "prepare_demo"]

NUM_IDENTITIES = 28
SEED = 7
"""Other seeds give other people; the figures in the README are of this one."""


@dataclass(frozen=True, slots=True)
class Demo:
    """Where the demo's files lie."""

    config: Path
    """Settings file, a model for one's own."""
    source: Path
    """Data set to train on."""
    unseen: tuple[Path, ...]
    """A real and a fake video of people who are not in the data set."""
    made: int
    """Videos made just now; 0 where they stood already."""


def prepare_demo(folder: Path) -> Demo:
    """Make the demo's videos and settings, unless they stand already.

    Parameters
    ----------
    folder
        Where everything goes.
    """
    source, others, config = folder / "videos", folder / "unseen", folder / "dfpipe.yaml"
    made = _make(source, num_identities=NUM_IDENTITIES, first_identity=0)
    made += _make(others, num_identities=2, first_identity=NUM_IDENTITIES)
    config.write_text(
        "# Settings of the demo; `dfpipe config` prints every key there is.\n"
        + yaml.safe_dump(
            {
                "source": str(source),
                "store": str(folder / "store"),
                "state": str(folder / "state"),
                "videos_per_shard": 8,
                # Smaller than the defaults, so that the grid search takes seconds.
                "train": {
                    "features": [{"name": "pixels", "size_px": 24}, {"name": "residual"}],
                    "xgboost": {"n_estimators": [100], "max_depth": [2, 4]},
                    # Nobody is in these videos whose face anybody may not see.
                    "evaluation": {"sheets": {}, "by": ["manipulation", "skin_tone"]},
                },
                "report": {"faces": 7},
                "mlflow": {"experiment": "dfpipe-demo", "registered_model": "dfpipe-demo"},
            },
            sort_keys=False,
        ),
        encoding="utf-8",
    )
    videos = sorted(others.rglob("*.mp4"))
    real = next(video for video in videos if "original_sequences" in video.parts)
    fake = next(video for video in videos if "manipulated_sequences" in video.parts)
    return Demo(config, source, (real, fake), made)


def _make(folder: Path, *, num_identities: int, first_identity: int) -> int:
    report = write_dataset(
        folder,
        num_identities=num_identities,
        first_identity=first_identity,
        seed=SEED,
        jobs=usable_cores(),
        on_progress=partial(progress.report, folder.name),
    )
    return report.num_written
