"""Keys that end in the middle of a run: every client gets the next ones by itself."""

import json
import logging
import os
import shlex
import sys
from contextlib import closing
from datetime import timedelta

import boto3
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from dfpipe.errors import StoreError
from dfpipe.settings import S3Settings
from dfpipe.storage import _clients, arrow_file_system, boto_environment, delta_options, open_location, storage_errors

pytestmark = pytest.mark.services

PROCESS = """\
import datetime, json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
with (folder / "calls").open("a") as calls:
    calls.write("x")
answer = json.loads((folder / "answer.json").read_text())
if "lifetime" in answer:
    ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=answer.pop("lifetime"))
    answer["Expiration"] = ends.isoformat()
print(json.dumps(answer))
"""


EXPIRED = json.dumps({"Version": 1, "AccessKeyId": "x", "SecretAccessKey": "y", "lifetime": -1})


class Keys:
    """A program that hands out keys of the server's user, as AWS' credential_process, and counts how often it did."""

    def __init__(self, folder, admin):
        self.folder, self.admin = folder, admin
        (folder / "process.py").write_text(PROCESS)
        (folder / "calls").touch()
        command = shlex.join([sys.executable, str(folder / "process.py"), str(folder)])
        (folder / "config").write_text(f"[profile renewed]\ncredential_process = {command}\n")
        self.current = None

    @property
    def calls(self):
        return (self.folder / "calls").stat().st_size

    def change(self, lifetime):
        """Hand out another key from now on, and have the server refuse the one before."""
        earlier = self.current
        known = {key["access_key"] for key in self.admin("user", "info", "--uid=dfpipe")["keys"]}
        made = self.admin("key", "create", "--uid=dfpipe", "--key-type=s3", "--gen-access-key", "--gen-secret")
        (self.current,) = (key for key in made["keys"] if key["access_key"] not in known)
        answer = {
            "Version": 1,
            "AccessKeyId": self.current["access_key"],
            "SecretAccessKey": self.current["secret_key"],
            "lifetime": lifetime.total_seconds(),
        }
        (self.folder / "answer.json").write_text(json.dumps(answer))
        if earlier:
            self.withdraw(earlier)

    def withdraw(self, key):
        self.admin("key", "rm", "--uid=dfpipe", "--key-type=s3", f"--access-key={key['access_key']}")


@pytest.fixture
def keys(tmp_path, admin, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_CA_BUNDLE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget()
    made = Keys(tmp_path, admin)
    yield made
    made.withdraw(made.current)
    forget()


def forget():
    """Be as a new process."""
    _clients._chain.cache_clear()
    _clients._S3FileSystem.clear_instance_cache()


def file(url, s3):
    open_location(url, s3).write_bytes(b"bytes")


def append(url, s3, number=1):
    with storage_errors("write", url):
        write_deltalake(url, pa.table({"n": [number]}), mode="append", storage_options=delta_options(url, s3))


def numbers(url, s3):
    return sorted(DeltaTable(url, storage_options=delta_options(url, s3)).to_pyarrow_table()["n"].to_pylist())


def read_by_arrow(url, s3):
    with storage_errors("read", url), arrow_file_system(s3).open_input_file(url.removeprefix("s3://")) as file:
        return file.read()


@pytest.fixture(params=["s3.profile", "AWS_PROFILE"])
def renewed(request, s3, keys, monkeypatch):
    """Settings that name no key: it comes from a profile of theirs, or from the usual chain."""
    if request.param == "AWS_PROFILE":
        monkeypatch.setenv("AWS_PROFILE", "renewed")
        return S3Settings(endpoint_url=s3.endpoint_url)
    return S3Settings(endpoint_url=s3.endpoint_url, profile="renewed")


def test_a_long_session_goes_on_with_the_next_keys(bucket, s3, renewed, keys, caplog):
    caplog.set_level(logging.INFO)
    folder = open_location(f"{bucket}/folder", renewed)
    calls, secrets = [keys.calls], []
    for turn in range(3):
        # The key of the turn before is dead from here on; without renewal the next test is what comes of it.
        keys.change(timedelta(seconds=5))
        secrets.append(keys.current["secret_key"])
        folder.child(str(turn)).write_bytes(b"bytes")
        append(f"{bucket}/table", renewed, turn)
        assert read_by_arrow(f"{bucket}/folder/{turn}", renewed) == b"bytes"
        calls.append(keys.calls)
    assert calls == sorted(set(calls))
    assert numbers(f"{bucket}/table", s3) == [0, 1, 2]
    assert [path.rpartition("/")[2] for path in folder.fs.find(folder.path)] == ["0", "1", "2"]
    assert not [secret for secret in secrets if secret in caplog.text]


def test_keys_that_say_they_last_are_kept_and_not_asked_for_again(bucket, renewed, keys):
    # The server refuses them all the same once they are withdrawn: the other test passes because they are renewed.
    keys.change(timedelta(days=1))
    kept = open_location(f"{bucket}/file", renewed)
    for turn in range(3):
        kept.write_bytes(b"bytes")
        append(f"{bucket}/table", renewed, turn)
    # One for the files, one for the tables.
    assert keys.calls <= 2
    keys.change(timedelta(days=1))
    with pytest.raises(StoreError, match=r"the server does not know this access key"):
        kept.write_bytes(b"bytes")
    with pytest.raises(StoreError, match=r"the server does not know this access key"):
        append(f"{bucket}/table", renewed, 3)


def test_mlflow_s_client_gets_the_same_keys(bucket, s3, keys, monkeypatch):
    keys.change(timedelta(seconds=5))
    # What a shell had set must not win over the profile.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-a-shell")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-a-shell")
    for name, value in boto_environment(S3Settings(endpoint_url=s3.endpoint_url, profile="renewed")).items():
        monkeypatch.setenv(name, value)
    with closing(boto3.Session().client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])) as client:
        for turn in range(2):
            client.put_object(Bucket=bucket.removeprefix("s3://"), Key=str(turn), Body=b"x")
            keys.change(timedelta(seconds=5))


def test_keys_of_the_settings_win_over_what_the_shell_has(bucket, s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-a-shell")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-a-shell")
    file(f"{bucket}/file", s3)
    append(f"{bucket}/table", s3, 1)
    for name, value in boto_environment(s3).items():
        monkeypatch.setenv(name, value)
    with closing(boto3.Session().client("s3", endpoint_url=s3.endpoint_url)) as client:
        client.put_object(Bucket=bucket.removeprefix("s3://"), Key="x", Body=b"x")


@pytest.mark.parametrize("token", ["of-a-shell", ""])
def test_a_token_that_belongs_to_no_key_in_use_is_not_sent(s3, monkeypatch, token):
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    with pytest.raises(StoreError, match=r"the environment has an AWS_SESSION_TOKEN, .* unset it"):
        delta_options("s3://bucket/table", s3)


@pytest.mark.parametrize("act", [file, append])
@pytest.mark.parametrize(
    ("profile", "answer", "told"),
    [
        ("unknown", "", r"the AWS files have no such profile; check s3\.profile"),
        ("renewed", "{}", r"the keys could not be had; run the credential_process of s3\.profile"),
        ("renewed", EXPIRED, r"the new keys have expired already; check the clock and what renews s3\.profile"),
    ],
)
def test_a_profile_that_gives_no_keys(bucket, s3, keys, act, profile, answer, told):
    keys.change(timedelta(seconds=5))
    (keys.folder / "answer.json").write_text(answer)
    settings = S3Settings(endpoint_url=s3.endpoint_url, profile=profile)
    with pytest.raises(StoreError, match=told):
        act(f"{bucket}/thing", settings)
