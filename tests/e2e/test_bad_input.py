"""What people get wrong: one line that helps, exit code 2, and nothing lost."""

import json
import socket

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.services]


@pytest.fixture
def refused(dfpipe):
    """Run a command that must be refused with one line; return the line."""

    def run(*arguments, **environment):
        ended = dfpipe(*arguments, code=2, **environment)
        lines = ended.err.strip().splitlines()
        assert len(lines) == 1, ended.err
        assert ended.out == ""
        return lines[0].removeprefix("dfpipe: ")

    return run


def real_and_fake(folder, names):
    """Lay out files in the csv layout; nothing looks into them before decoding."""
    folder.mkdir()
    rows = ["video,label,identity"]
    for name, label in names.items():
        (folder / f"{name}.mp4").write_bytes(name.encode() * 50)
        rows.append(f"{name}.mp4,{label},{name}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


def test_no_source(refused):
    assert refused("run") == "no source is set; say where the videos lie with --set source=FOLDER_OR_S3_URL"


def test_missing_root(refused):
    assert "nowhere" in refused("run", "--set=source=nowhere")


def test_empty_root(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("catalog", "empty")


def test_unknown_layout(refused, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    line = refused("catalog", "photos")
    assert "cat.jpg" in line
    assert all(layout in line for layout in ("ffpp", "celebdf", "dfdc", "csv"))


def test_store_that_cannot_be_written(refused, tmp_path):
    real_and_fake(tmp_path / "videos", {"a": "real", "b": "fake"})
    (tmp_path / "file").write_text("")
    line = refused("run", "--set=source=videos", "--set=store=file/store")
    assert line.startswith("cannot write ")
    assert "choose another" in line


def test_unknown_setting(refused):
    assert refused("config", "--set=extract.crop.size=3").endswith("did you mean 'extract.crop.size_px'?")


def test_unknown_setting_in_the_environment(refused):
    assert refused("config", DFPIPE_STOER="x").endswith("did you mean 'store'?")


def test_settings_file_that_is_not_there(refused):
    assert refused("config", "--config=no.yaml").startswith("cannot read settings file no.yaml")


def test_port_that_is_taken(refused):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("up", f"--mlflow-port={port}")
    assert f"port {port} for mlflow is taken" in line


def test_nobody_at_the_s3_endpoint(refused):
    line = refused(
        "catalog",
        "s3://bucket/videos",
        "--set=s3.endpoint_url=http://127.0.0.1:9",
        "--set=s3.access_key_id=k",
        "--set=s3.secret_access_key=hush-hush",
    )
    assert "s3.endpoint_url" in line
    assert "hush-hush" not in line


def test_nobody_at_the_prefect_address(refused):
    line = refused("run", "--set=prefect.api_url=http://me:hush@127.0.0.1:9/api")
    assert "prefect.api_url" in line
    assert "hush" not in line


def test_no_model_yet(refused):
    assert "dfpipe run" in refused("predict", "video.mp4")


def test_the_ledger_of_a_store_that_was_never_written_is_empty(dfpipe):
    assert dfpipe("status", "--json").json["statuses"] == []


def test_one_class_only_keeps_what_was_extracted(dfpipe, tmp_path):
    real_and_fake(tmp_path / "videos", {"a": "real", "b": "real"})
    ended = dfpipe("run", "--set=source=videos", code=2)
    assert "Traceback" not in ended.err
    assert "none of the 2 videos of the catalog has a face" in ended.err
    status = dfpipe("status", "--json", "--set=source=videos").json
    assert [(row["status"], row["videos"]) for row in status["statuses"]] == [("unsupported", 2)]


def test_json_errors_are_json(dfpipe):
    ended = dfpipe("catalog", "nowhere", "--json", code=2)
    assert json.loads(ended.out)["exit_code"] == 2
