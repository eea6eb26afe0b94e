"""docs/storage.md is true: its settings parse, and it explains what `dfpipe.storage` says."""

import re
from pathlib import Path

import pytest
import yaml

from dfpipe.settings import Settings
from dfpipe.storage import _errors, delta_options, open_location

TEXT = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_settings_parse_and_reach_what_they_name(block):
    written = yaml.safe_load(block)
    settings = Settings.model_validate(written)
    # No key is misspelt into one that is passed over.
    assert settings.model_dump(exclude_unset=True, mode="json").keys() == written.keys()
    for url in filter(None, (settings.source, settings.store)):
        fs = open_location(url, settings.s3).fs
        if url.startswith("s3://"):
            assert fs.endpoint_url == settings.s3.endpoint_url
            assert fs.client_kwargs["region_name"] == settings.s3.region
            if settings.s3.access_key_id:
                assert delta_options(url, settings.s3)["AWS_ACCESS_KEY_ID"] == settings.s3.access_key_id


def test_there_is_a_block_for_each_server():
    assert len(BLOCKS) == 6


def test_every_advice_is_explained():
    said = {*_errors.CODES.values(), *_errors.PHRASES.values()}
    explained = re.findall(r"^\| ([^|]+) \|", TEXT, re.MULTILINE)[1:]
    # What speaks of addresses and paths explains itself.
    plain = {"there is no table", "no such file or folder", "a part of the path is a file", "a file stands where"}
    assert not [
        advice for advice in said if not advice.startswith((*explained, *plain)) and "single sign-on" not in advice
    ]
    # And nothing that is never said.
    source = Path(_errors.__file__).read_text(encoding="utf-8")
    assert not [line for line in explained if line not in source]
