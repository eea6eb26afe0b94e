import logging
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from dfpipe.settings import S3Settings
from dfpipe.storage import Location, open_location


@dataclass(frozen=True)
class Place:
    """An empty data set root on one of the backends, and a way to fill it that does not go through dfpipe."""

    root: Location

    def fill(self, files: Mapping[str, str | bytes]) -> None:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            if self.root.is_local:
                target = Path(self.root.path, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            else:
                self.root.fs.pipe_file(f"{self.root.path}/{path}", data)

    def remove(self) -> None:
        self.root.fs.rm(self.root.path, recursive=True)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Settings]:
    # Port 0: the system picks a free one, so that test runs side by side do not meet.
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Settings(
        endpoint_url=f"http://{host}:{port}", access_key_id="test", secret_access_key=SecretStr("not-checked")
    )
    server.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    root = tmp_path / "data"
    root.mkdir()
    return Place(open_location(root, S3Settings()))


@pytest.fixture
def bucket(s3: S3Settings) -> Place:
    name = f"bucket-{uuid.uuid4().hex}"
    root = open_location(f"s3://{name}/data", s3)
    root.fs.call_s3("create_bucket", Bucket=name)
    return Place(root)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest) -> Place:
    chosen: Place = request.getfixturevalue(request.param)
    return chosen
