"""A cluster's options may hold passwords at any depth: their values stand nowhere."""

import pickle

import pytest

from dfpipe.cli._config import to_documented_yaml
from dfpipe.errors import SettingsError
from dfpipe.settings import load_settings

HUSH = "hush0secret"
OPTIONS = {"n_workers": 2, "env": {"AWS_SECRET_ACCESS_KEY": HUSH}, "connect_options": [{"password": HUSH}]}


def load(*overrides, **environ):
    return load_settings(overrides=overrides, environ=environ)


def given():
    return load(
        "dask.cluster.class_path=distributed.SSHCluster",
        "dask.cluster.options.n_workers=2",
        f"dask.cluster.options.env={{AWS_SECRET_ACCESS_KEY: {HUSH}}}",
        f"dask.cluster.options.connect_options=[{{password: {HUSH}}}]",
    )


def test_options_reach_the_class_and_nobody_else():
    settings = given()
    assert settings.dask.cluster.options.get_secret_value() == OPTIONS
    shown = "n_workers: **********, env: **********, connect_options: **********"
    # What `dfpipe config` prints, what Prefect stores of a flow's parameters, and what a log line would say.
    for text in (to_documented_yaml(settings), settings.model_dump_json(), repr(settings), str(settings.model_dump())):
        assert shown in text
        assert HUSH not in text


def test_prefect_stores_stars():
    # Prefect serialises parameters in this way; a plain dict would be stored as it is.
    from prefect.client.schemas.objects import FlowRun

    parameters = FlowRun(flow_id="00000000-0000-0000-0000-000000000000", parameters={"settings": given()})
    assert HUSH not in parameters.model_dump_json()


def test_settings_with_a_cluster_can_be_sent():
    assert pickle.loads(pickle.dumps(given())) == given()


def test_a_scheduler_and_a_cluster_are_one_too_many():
    with pytest.raises(SettingsError, match=r"dask\.scheduler and dask\.cluster are both set; .* to null"):
        load("dask.scheduler=tcp://10.0.0.1:8786", "dask.cluster.class_path=distributed.LocalCluster")


@pytest.mark.parametrize(
    ("overrides", "environ", "words"),
    [
        ([f"dask.cluster={HUSH}"], {}, "a hidden value"),
        (["dask.cluster.class_path=a.B", f"dask.cluster.options={HUSH}"], {}, "a hidden value"),
        ([f"dask.cluster.options.password=[{HUSH}"], {}, "not a YAML value"),
        ([], {"DFPIPE_DASK__CLUSTER__OPTIONS__PASSWORD": f"[{HUSH}"}, "not a YAML value"),
        ([f"dask.cluster.options.env.X={HUSH}"], {}, "'dask.cluster.class_path' got a dict: field required"),
    ],
)
def test_mistakes_do_not_quote_them(overrides, environ, words):
    with pytest.raises(SettingsError) as caught:
        load(*overrides, **environ)
    assert words in str(caught.value)
    assert HUSH not in str(caught.value)
    assert HUSH not in str(caught.value.__cause__)
