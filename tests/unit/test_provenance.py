"""What stands in commits and trainings of who made them."""

import pytest

from dfpipe.provenance import make_provenance
from dfpipe.settings import DaskSettings, MlflowSettings, S3Settings, Settings


@pytest.mark.parametrize(
    "place",
    [
        {"mlflow": MlflowSettings(tracking_uri="http://mlflow:5000")},
        {"mlflow": MlflowSettings(username="me", password="twelve letters")},
        {"s3": S3Settings(endpoint_url="http://127.0.0.1:9000")},
        {"dask": DaskSettings(workers=3)},
    ],
)
def test_the_same_settings_at_another_place_have_the_same_hash(place):
    assert make_provenance(Settings(**place), run_id="r") == make_provenance(Settings(), run_id="r")


def test_what_a_run_makes_is_in_the_hash():
    other = Settings(mlflow=MlflowSettings(registered_model="other"))
    assert make_provenance(other, run_id="r") != make_provenance(Settings(), run_id="r")
