"""What a model has to show before it becomes the champion."""

from pydantic import Field

from dfpipe.settings.evaluation import BootstrapSettings
from dfpipe.settings.section import Section

__all__ = ["GateSettings"]


class GateSettings(Section):
    """What a model has to show, on people that it never saw, before it becomes the champion."""

    min_auc_lower_bound: float = Field(0.5, ge=0, le=1)
    """Lower bound of its video AUC must reach this; 0.5 is guessing."""
    auc_tolerance: float = Field(0.02, ge=0, le=1)
    """Lower bound of its video AUC minus the champion's must not be below minus this."""
    log_loss_tolerance: float = Field(0.1, ge=0)
    """Upper bound of its log loss by video minus the champion's must not be above this, in nats."""
    calibration_tolerance: float = Field(0.05, ge=0, le=1)
    """Upper bound of its expected calibration error by video minus the champion's must not be above this."""
    min_groups: int = Field(2, ge=2)
    """Groups of people that both models must never have learned from, for a comparison."""
    bootstrap: BootstrapSettings = BootstrapSettings()
    """Intervals that the bounds are held against."""
