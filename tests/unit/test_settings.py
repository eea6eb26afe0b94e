from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dfpipe import settings as module
from dfpipe.cli._config import to_documented_yaml
from dfpipe.errors import SettingsError
from dfpipe.settings import PixelsSettings, ResidualSettings, Settings, load_settings, loading
from dfpipe.settings.section import Section

HUSH = "hush0secret"


def load(text: str | None = None, tmp_path: Path | None = None, **options: Any) -> Settings:
    """Read settings from YAML text, and from nothing else of this machine."""
    path = None
    if text is not None:
        assert tmp_path is not None
        path = tmp_path / "dfpipe.yaml"
        path.write_text(text, encoding="utf-8")
    return load_settings(path, **{"environ": {}} | options)


def test_defaults_are_the_seed_study_s_protocol():
    chosen = load()
    assert chosen == Settings()
    assert (chosen.extract.sampling.every_frames, chosen.extract.sampling.max_frames) == (30, 7)
    assert (chosen.extract.detector.min_score, chosen.extract.crop.size_px) == (0.9, 320)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}"])
def test_an_empty_file_gives_the_defaults(text, tmp_path):
    assert load(text, tmp_path) == Settings()


def test_later_sources_win_key_by_key(tmp_path):
    chosen = load(
        "extract: {crop: {size_px: 100, margin_fraction: 0.1}, sampling: {max_frames: 3}}\nsource: from-file\n",
        tmp_path,
        environ={"DFPIPE_EXTRACT__CROP__SIZE_PX": "200", "DFPIPE_EXTRACT__SAMPLING__MAX_FRAMES": "4", "HOME": "/x"},
        overrides=["extract.crop.size_px=300"],
    )
    assert chosen.extract.crop.size_px == 300
    assert chosen.extract.sampling.max_frames == 4
    assert chosen.extract.crop.margin_fraction == 0.1
    assert chosen.source == "from-file"


def test_values_are_yaml():
    chosen = load(overrides=["train.forest=null", "train.xgboost.max_depth=[2, 4]", "source=~/v"])
    assert chosen.train.forest is None
    assert chosen.train.xgboost is not None
    assert chosen.train.xgboost.max_depth == [2, 4]
    assert chosen.source == "~/v"


def test_a_section_can_be_reached_below_a_null(tmp_path):
    chosen = load("s3:\n", tmp_path, overrides=["s3.region=eu-central-1"])
    assert chosen.s3.region == "eu-central-1"


@pytest.mark.parametrize("name", sorted(loading.ENV_NOT_SETTINGS))
def test_variables_that_are_no_settings_are_let_be(name):
    assert load(environ={name: "x"}) == Settings()


def test_feature_sets_are_told_apart_by_name():
    chosen = load(overrides=["train.features=[{name: residual, grid: 4}, {name: pixels, size_px: 8}]"])
    assert chosen.train.features == [ResidualSettings(grid=4), PixelsSettings(size_px=8)]


def test_sets_of_one_name_with_other_options_go_together():
    chosen = load(overrides=["train.features=[{name: lbp, grid: 2}, {name: lbp, grid: 4}]"])
    assert [feature.grid for feature in chosen.train.features] == [2, 4]


@pytest.mark.parametrize("features", ["[{name: landmarks}]", "[{name: dct}, {name: temporal, of: {name: landmarks}}]"])
def test_landmarks_need_a_detector_that_gives_them(features):
    with pytest.raises(
        SettingsError, match=r"needs landmarks, and detector cascade gives none; choose another extract\."
    ):
        load(overrides=[f"train.features={features}", "extract.detector.name=cascade"])
    load(overrides=[f"train.features={features}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("crop.size_px=3", "unknown setting 'crop'; did you mean 'extract.crop'?"),
        ("size_px=3", "unknown setting 'size_px'; did you mean 'extract.crop.size_px'?"),
        ("extract.crop.size=3", "unknown setting 'extract.crop.size'; did you mean 'extract.crop.size_px'?"),
        ("extract.crops.size_px=3", "unknown setting 'extract.crops'; did you mean 'extract.crop'?"),
        ("xyzzy=1", "unknown setting 'xyzzy'; `dfpipe config` prints every key"),
        ("layout=ffp", "setting 'layout' got 'ffp': input should be 'auto', 'ffpp', 'celebdf', 'dfdc' or 'csv'"),
        ("extract.crop.size_px=3", "setting 'extract.crop.size_px' got 3: input should be greater than or equal to 16"),
        ("source=[2]", "setting 'source' got a list: input should be a valid string"),
        ("source", "--set got 'source', expected key=value such as extract.crop.size_px=224"),
        ("source=[a", "--set source got '[a', which is not a YAML value; quote it"),
        ("train.features=[]", "train.features is empty; name at least one feature set"),
        (
            "train={forest: null, xgboost: null}",
            "train.forest, train.extra_trees, train.xgboost, train.lightgbm, train.logistic, train.linear_svm, "
            "train.rbf_svm are all null; leave at least one model in",
        ),
        (
            "train.features=[{name: pixels, size: 3}]",
            "unknown setting 'train.features.0.size'; did you mean 'size_px'?",
        ),
        (
            "train.features=[{name: residual, size_px: 3}]",
            "unknown setting 'train.features.0.size_px'; did you mean 'sigma_px'?",
        ),
        (
            "train.features=[{name: dct}, {name: pixels}, {name: dct, bands: diagonal}]",
            "train.features has dct twice with the same options; take one out, or change its options",
        ),
        (
            "train.features=[{name: temporal, of: {name: lbp, gridd: 2}}]",
            "unknown setting 'train.features.0.of.gridd'; did you mean 'grid'?",
        ),
        (
            "train.features=[{name: temporal, of: {name: temporal}}]",
            "setting 'train.features.0.of.name' got 'temporal', expected one of",
        ),
        (
            "train.forest.max_features=[sqrt, [1]]",
            "setting 'train.forest.max_features.1' got a list: input should be 'sqrt' or 'log2', or a valid integer",
        ),
        (
            "train.lightgbm.leaves=[3]",
            "unknown setting 'train.lightgbm.leaves'; did you mean 'train.lightgbm.num_leaves'?",
        ),
        ("train.rbf_svm.C=[0]", "setting 'train.rbf_svm.C.0' got 0: input should be greater than 0"),
        ("train.balance=upsampling", "setting 'train.balance' got 'upsampling': input should be 'weights', 'upsample'"),
        ("train.search.scoring=video_aux", "train.search.scoring got 'video_aux', expected one of video_auc,"),
        ("s3.endpoint_url=localhost:9000", "s3.endpoint_url got 'localhost:9000', expected one such as http://"),
        ("mlflow.username=me", "mlflow.username and mlflow.password go together; set both or neither"),
        ("prefect.auth=team", "prefect.auth has no colon between two words, expected user:password"),
        (
            "prefect.database_url=mysql://a",
            "prefect.database_url is of another kind, expected one that starts with post",
        ),
        ("dask={scheduler: 'tcp://a:1', tls: {ca_file: a, cert: b, key: c}}", "dask.tls is set and dask.scheduler is "),
        (
            "dask={cluster: {class_path: a.B}, tls: {ca_file: a, cert: b, key: c}}",
            "dask.tls is for dask.scheduler and for workers on this machine; a cluster takes its own among",
        ),
        ("s3.access_key_id=a", "s3.access_key_id and s3.secret_access_key go together; set both or neither"),
        ("s3.session_token=a", "s3.session_token belongs to a key; set s3.access_key_id"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(override, message):
    with pytest.raises(SettingsError) as caught:
        load(overrides=[override])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_key_below_a_value():
    with pytest.raises(
        SettingsError, match=r"--set source.x goes below 'source', which holds a str and no further keys"
    ):
        load(overrides=["source=videos", "source.x=1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- source\n", "holds a list, expected keys and values such as 'source: videos'"),
        (
            "source: videos\nstore: [x\n",
            "cannot be read as YAML from line 3 on; check indentation, quotes and brackets",
        ),
        ("source: \x07\n", "cannot be read as YAML; check"),
    ],
)
def test_a_file_that_is_no_settings(text, message, tmp_path):
    with pytest.raises(SettingsError) as caught:
        load(text, tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path / "dfpipe.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(
        SettingsError, match=r"cannot read settings file .*nowhere.yaml: No such file or directory; give"
    ):
        load_settings(tmp_path / "nowhere.yaml", environ={})


@pytest.mark.parametrize(
    "text",
    [
        f"s3: {{access_key_id: a, secret_access_key: [{HUSH}]}}",
        f"s3: {{access_key_id: a, secret_access_key: {{x: {HUSH}}}}}",
        f's3: {{access_key_id: a, secret_access_key: "{HUSH}}}',
        f"s3: {{access_key_id: a, secret_access_key: *{HUSH}}}",
        f"s3: [{{secret_access_key: {HUSH}}}]",
        f"s3: {HUSH}",
        f"s3: {{session_token: {HUSH}}}",
        f"s3: {{secret_access_key: {HUSH}}}",
        f"s3: {{access_key_id: a, secret_access_key: {HUSH}, secret_acces_key: {HUSH}}}",
    ],
)
def test_no_message_about_a_file_tells_a_secret(text, tmp_path):
    with pytest.raises(SettingsError) as caught:
        load(text, tmp_path)
    error: BaseException | None = caught.value
    while error is not None:
        assert HUSH not in str(error)
        error = error.__cause__ if error.__suppress_context__ else error.__context__


@pytest.mark.parametrize(
    "options",
    [
        {"overrides": [f"s3.secret_access_key={HUSH}", "s3.secret_access_key.x=1"]},
        {"overrides": [f"s3.secret_access_key={HUSH}"]},
        {"environ": {"DFPIPE_S3__SECRET_ACCESS_KEY": f"{HUSH}: [a"}},
        {"environ": {"DFPIPE_S3__SESSION_TOKEN": f"[{HUSH}"}},
        {"environ": {"DFPIPE_MLFLOW__PASSWORD": f"{{{HUSH}"}},
        {"environ": {"DFPIPE_PREFECT__AUTH": f"*{HUSH}"}},
        {"environ": {"DFPIPE_PREFECT__DATABASE_URL": f"[{HUSH}"}},
        {"environ": {"DFPIPE_MLFLOW__TRACKING_URI": f"[http://me:{HUSH}@host"}},
        {"environ": {"DFPIPE_MLFLOW": HUSH}},
        {"overrides": [f"prefect.auth=@{HUSH}"]},
        {"overrides": [f"telemetry.otlp_endpoint=[http://me:{HUSH}@host"]},
    ],
)
def test_no_message_about_a_variable_or_an_override_tells_a_secret(options):
    with pytest.raises(SettingsError) as caught:
        load(**options)
    assert HUSH not in str(caught.value)


@pytest.mark.parametrize("key", ["mlflow.password", "prefect.auth", "prefect.database_url", "mlflow.tracking_uri"])
@pytest.mark.parametrize("mend", [True, False])
def test_passwords_of_servers_are_stars(key, mend, tmp_path):
    good = {"mlflow.password": HUSH, "prefect.auth": f"me:{HUSH}"}.get(key, f"postgresql://me:{HUSH}@db/x")
    others = ["mlflow.username=me", "mlflow.password=x"] if key == "mlflow.password" else []
    if mend:
        chosen = load(overrides=[*others, f"{key}={good}"])
        assert HUSH not in str(chosen.model_dump(mode="json")) + to_documented_yaml(chosen)
        assert HUSH not in f"{chosen!r} {chosen}" + chosen.model_dump_json()
    else:
        with pytest.raises(SettingsError) as caught:
            load("{}: {{{}: {{x: {}}}}}".format(*key.split("."), HUSH), tmp_path)
        assert HUSH not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        ["s3.access_key_id=a", f"s3.secret_access_key={HUSH}"],
        ["mlflow.username=me", f"mlflow.password={HUSH}"],
        [f"mlflow.tracking_uri=postgresql://me:{HUSH}@db/x"],
        [f"prefect.api_url=http://me:{HUSH}@host/api"],
    ],
)
def test_stars_are_no_secret(override, tmp_path):
    """What `dfpipe config` printed is a file to start from: taken for secrets, its stars would be refused elsewhere."""
    text = to_documented_yaml(load(overrides=override))
    key = override[-1].partition("=")[0]
    with pytest.raises(SettingsError, match=rf"^{key} has stars in place of a secret, .* DFPIPE_\w+__\w+, or take"):
        load(text, tmp_path)
    assert load(text, tmp_path, overrides=override) == load(overrides=override)


@pytest.mark.parametrize("secret", ["12345", "1e5", "yes", "0x1F", "a: [b", "*c", "'", "end="])
def test_a_secret_is_taken_letter_by_letter(secret):
    chosen = load(environ={"DFPIPE_S3__SECRET_ACCESS_KEY": secret}, overrides=["s3.access_key_id=a"])
    assert chosen.s3.secret_access_key is not None
    assert chosen.s3.secret_access_key.get_secret_value() == secret
    assert set(chosen.model_dump(mode="json")["s3"]["secret_access_key"]) == {"*"}


@pytest.mark.parametrize("secret", ["007007007007", "1_000_000_000", "2024-01-01", "before #after", "no: yes", "*c:d"])
def test_so_is_a_password(secret):
    environ = {"DFPIPE_MLFLOW__PASSWORD": secret, "DFPIPE_PREFECT__AUTH": f"me:{secret}"}
    chosen = load(environ=environ, overrides=["mlflow.username=me"])
    assert chosen.mlflow.password is not None
    assert chosen.prefect.auth is not None
    assert chosen.mlflow.password.get_secret_value() == secret
    assert chosen.prefect.auth.get_secret_value() == f"me:{secret}"


@pytest.mark.parametrize("none", ["", "null"])
def test_a_secret_can_be_taken_away(none, tmp_path):
    text = "prefect: {auth: 'me:pass', database_url: 'postgresql://db/x'}\ns3: {access_key_id: a, secret_access_key: b}"
    keys = ("prefect.auth", "prefect.database_url", "s3.secret_access_key")
    chosen = load(text, tmp_path, overrides=["s3.access_key_id=", *(f"{key}={none}" for key in keys)])
    assert chosen == Settings()


def test_features_tried_at_a_node_are_a_word_a_number_or_a_share():
    chosen = load(overrides=["train.forest.max_features=[sqrt, log2, 10, 1, 0.5]"])
    assert chosen == Settings.model_validate_json(chosen.model_dump_json())
    assert chosen.train.forest is not None
    tried = chosen.train.forest.max_features
    assert [(type(one), one) for one in tried] == [(str, "sqrt"), (str, "log2"), (int, 10), (int, 1), (float, 0.5)]
    for wrong in ("sqrtt", "0", "1.5"):
        with pytest.raises(SettingsError, match=r"'train\.forest\.max_features\.0' got .*: input should be 'sqrt' or"):
            load(overrides=[f"train.forest.max_features=[{wrong}]"])


def test_a_date_that_is_a_password_is_not_told(tmp_path):
    with pytest.raises(SettingsError, match=r"'mlflow\.password' got a hidden value"):
        load("mlflow: {username: me, password: 2024-01-01}", tmp_path)


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Settings().source = "other"  # type: ignore[misc]


SECTIONS = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Section)]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_says_what_it_is(section):
    assert section.__doc__
    for name, field in section.model_fields.items():
        assert field.description, f"{section.__name__}.{name} has no sentence below it"


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


@pytest.mark.parametrize(("key", "value"), leaves(Settings().model_dump(mode="json")).items())
def test_every_key_can_be_set_in_each_of_the_three_ways(key, value, tmp_path):
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()
    if loading._is_secret(key):
        return
    tree: Any = value
    for part in reversed(key.split(".")):
        tree = {part: tree}
    assert load(yaml.safe_dump(tree), tmp_path) == Settings()
    assert load(environ={"DFPIPE_" + key.upper().replace(".", "__"): text}) == Settings()
    assert load(overrides=[f"{key}={text}"]) == Settings()


@settings(deadline=None, max_examples=40)  # reading YAML takes as long as the machine is busy
@given(size=st.integers(16, 2048), fraction=st.floats(0, 2), keep=st.booleans(), source=st.none() | st.just("s3://b/x"))
def test_what_is_dumped_loads_as_the_same(size, fraction, keep, source):
    chosen = load(
        overrides=[
            f"extract.crop.size_px={size}",
            f"extract.crop.margin_fraction={fraction:f}",
            f"extract.frames.keep={str(keep).lower()}",
            f"source={source or 'null'}",
        ]
    )
    assert Settings.model_validate(yaml.safe_load(yaml.safe_dump(chosen.model_dump(mode="json")))) == chosen
    assert chosen.extract.frames.keep is keep
