from pathlib import Path

import pytest

from dfpipe.errors import ServiceError
from dfpipe.settings import MlflowSettings
from dfpipe.tracking import Tracking, open_tracking, tracking_uri


def test_the_database_lies_under_the_state_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = tracking_uri(MlflowSettings(), state=Path("state"))
    assert uri == f"sqlite:///{tmp_path}/state/mlflow/mlflow.db"
    assert tracking_uri(MlflowSettings(tracking_uri="http://x:1"), state=tmp_path) == "http://x:1"


def test_a_run_has_a_page_only_on_a_server():
    server = Tracking(None, "http://user:word@host:5000/", "7", MlflowSettings())
    assert server.run_url("abc") == "http://host:5000/#/experiments/7/runs/abc"
    assert server.shown_uri == "http://host:5000/"
    assert "word@" not in repr(server)
    assert Tracking(None, "sqlite:////x.db", "7", MlflowSettings()).run_url("abc") is None


def test_nobody_at_the_address_is_one_line(tmp_path, free_port):
    settings = MlflowSettings(tracking_uri=f"http://name:secret@127.0.0.1:{free_port}")
    with pytest.raises(
        ServiceError, match=rf"no MLflow server answers at http://127.0.0.1:{free_port}; start"
    ) as caught:
        open_tracking(settings, state=tmp_path, artifact_root=str(tmp_path))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_address_of_no_known_kind_is_one_line(tmp_path):
    with pytest.raises(ServiceError, match="cannot open MLflow at htp://x") as caught:
        open_tracking(MlflowSettings(tracking_uri="htp://x"), state=tmp_path, artifact_root=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_state_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(ServiceError, match="set state to a folder that can be written"):
        open_tracking(MlflowSettings(), state=tmp_path / "state", artifact_root=str(tmp_path))


@pytest.mark.parametrize(
    "uri", ["http://me:hush/0secret@127.0.0.1", "http://me:hush0secret/@127.0.0.1:1", "ftp://h/x?password=hush0secret"]
)
def test_an_address_with_its_password_in_an_odd_place_is_told_without_it(uri, tmp_path):
    with pytest.raises(ServiceError) as caught:
        open_tracking(MlflowSettings(tracking_uri=uri), state=tmp_path, artifact_root=str(tmp_path))
    assert "hush" not in str(caught.value)
    assert "0secret" not in str(caught.value)
    assert "hush" not in MlflowSettings(tracking_uri=uri).model_dump_json()


@pytest.mark.parametrize("what", ["a folder", "no database"])
def test_a_database_that_cannot_be_opened_is_one_line_at_once(what, tmp_path):
    file = tmp_path / "mlflow/mlflow.db"
    file.parent.mkdir()
    if what == "a folder":
        file.mkdir()
    else:
        file.write_text("by and by it became something else\n" * 100)
    with pytest.raises(ServiceError, match=rf"cannot open the database of MLflow at sqlite:///{file}: .*; restore it"):
        open_tracking(MlflowSettings(), state=tmp_path, artifact_root=str(tmp_path))
