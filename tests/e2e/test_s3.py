"""The same pipeline with videos and store in a real S3 server that checks signatures."""

import json
import urllib.request

import pytest

from dfpipe.storage import open_location
from dfpipe.synth import write_dataset

pytestmark = [pytest.mark.slow, pytest.mark.services]


@pytest.fixture
def secrets(s3):
    return {
        "DFPIPE_S3__ENDPOINT_URL": s3.endpoint_url,
        "DFPIPE_S3__ACCESS_KEY_ID": s3.access_key_id,
        "DFPIPE_S3__SECRET_ACCESS_KEY": s3.secret_access_key.get_secret_value(),
    }


def flow_runs(api_url):
    request = urllib.request.Request(f"{api_url}/flow_runs/filter", b"{}", {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_from_a_bucket_to_a_model_in_a_bucket(dfpipe, tmp_path, s3, bucket, secrets, prefect_url):
    write_dataset(tmp_path / "made", num_identities=8, num_frames=(24, 30), heights=(360,), seed=3, jobs=2)
    location = open_location(bucket, s3)
    location.fs.put(str(tmp_path / "made") + "/", f"{location.path}/videos/", recursive=True)
    settings = [
        f"--set=source={bucket}/videos",
        f"--set=store={bucket}/store",
        "--set=extract.sampling.every_frames=12",
        "--set=train.features=[{name: residual, grid: 4}]",
        "--set=train.split.folds=2",
        "--set=train.split.test_fraction=0.5",
        "--set=gate.min_auc_lower_bound=0",
        "--set=train.forest.n_estimators=[20]",
        "--set=train.xgboost=null",
    ]
    ran = dfpipe("run", "--json", *settings, **secrets).json
    assert (ran["extracted"], sum(ran["statuses"].values()), ran["trained"]) == (16, 16, True)
    again = dfpipe("run", "--json", *settings, **secrets).json
    assert (again["extracted"], again["trained"]) == (0, False)
    fake = next(path for path in location.fs.find(f"{location.path}/videos") if "manipulated" in path)
    (verdict,) = dfpipe("predict", "--json", f"s3://{fake}", *settings, **secrets).json
    assert verdict["verdict"] in ("real", "fake")

    # Tables, pictures and the model: all in the bucket, and no video was copied to this machine.
    stored = {path.removeprefix(f"{location.path}/store/").split("/")[0] for path in location.fs.find(location.path)}
    assert {"tables", "mlflow"} <= stored
    kept_here = [path for path in tmp_path.rglob("*") if path.is_file() and "made" not in path.parts]
    assert not [path for path in kept_here if path.suffix in (".mp4", ".parquet", ".png")]
    # The secret is in no file of ours and in nothing that Prefect keeps.
    secret = secrets["DFPIPE_S3__SECRET_ACCESS_KEY"]
    assert not [path for path in kept_here if secret.encode() in path.read_bytes()]
    assert secret not in json.dumps(flow_runs(prefect_url))


def test_a_wrong_key_is_named(dfpipe, bucket, secrets):
    wrong = secrets | {"DFPIPE_S3__SECRET_ACCESS_KEY": "wrong"}
    ended = dfpipe("run", f"--set=source={bucket}/videos", f"--set=store={bucket}/store", code=2, **wrong)
    (line,) = ended.err.strip().splitlines()
    assert "s3.secret_access_key" in line
    assert "wrong" not in line.replace("the secret key", "")
