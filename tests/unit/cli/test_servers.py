"""Which scheduler a command uses."""

import pytest

from dfpipe.cli import _servers
from dfpipe.errors import ServiceError
from dfpipe.services import ServiceStatus
from dfpipe.settings import ClusterSettings, DaskSettings, Settings, TlsSettings


@pytest.fixture
def running(monkeypatch, tmp_path):
    def place(url):
        status = ServiceStatus("dask", url, 1, 1, tmp_path, None)
        monkeypatch.setattr(_servers, "find", lambda state, name: status if name == "dask" else None)

    return place


@pytest.mark.parametrize(
    "dask", [DaskSettings(scheduler="tcp://there:1"), DaskSettings(cluster=ClusterSettings(class_path="a.B"))]
)
def test_who_names_a_place_gets_it(running, dask):
    running("tcp://127.0.0.1:8786")
    settings = Settings(dask=dask)
    assert _servers.with_local_dask(settings) is settings


def test_the_scheduler_of_up_is_used_where_it_runs(running, tmp_path):
    settings = Settings(state=tmp_path, dask=DaskSettings(workers=3))
    assert _servers.with_local_dask(settings) is settings  # none runs
    running("tcp://127.0.0.1:8786")
    assert _servers.with_local_dask(settings).dask == DaskSettings(workers=3, scheduler="tcp://127.0.0.1:8786")


def test_who_wants_tls_gets_no_scheduler_without(running, tmp_path):
    running("tcp://127.0.0.1:8786")
    tls = TlsSettings(ca_file=tmp_path, cert=tmp_path, key=tmp_path)
    with pytest.raises(ServiceError, match="was started without; `dfpipe down`"):
        _servers.with_local_dask(Settings(dask=DaskSettings(tls=tls)))
    running("tls://127.0.0.1:8786")
    assert _servers.with_local_dask(Settings(dask=DaskSettings(tls=tls))).dask.scheduler == "tls://127.0.0.1:8786"
