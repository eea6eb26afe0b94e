"""docs/features.md is true: it names every set with its columns and options, and its code runs."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from dfpipe.extract import extract_fingerprint
from dfpipe.features import columns
from dfpipe.features._compute import SETS
from dfpipe.settings import FeatureSettings, PixelsSettings, ResidualMapSettings, S3Settings, Settings, TrainSettings
from dfpipe.shards import open_tables
from dfpipe.testing import write_features

PAGE = (Path(__file__).parents[3] / "docs" / "features.md").read_text()


@pytest.mark.parametrize("name", [*SETS, "temporal"])
def test_the_table_tells_columns_and_options_of_every_set(name):
    chosen = TypeAdapter(FeatureSettings).validate_python({"name": name})
    ((width, options),) = re.findall(rf"^\| `{name}` \| (\d+) \|(.*?)\| [^|]+ \|$", PAGE, re.MULTILINE)
    assert int(width) == columns(chosen)
    assert set(re.findall(r"`(\w+)`", re.sub(r"\(.*\)", "", options))) == {*type(chosen).model_fields} - {"name"}


def test_the_example_settings_can_be_used():
    example = yaml.safe_load(re.search(r"^    train:\n(?:    .*\n)+", PAGE, re.MULTILINE).group())["train"]
    assert len(TrainSettings(**example).features) == len(example["features"]) == 5


def test_the_code_makes_stacks_of_the_rows_of_a_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tables = open_tables(Settings().store, S3Settings())
    crops = extract_fingerprint(Settings().extract)
    maps = [[place] * 10_001 for place in range(3)]
    rows = [("a", "c", 60, maps[2]), ("a", "c", 0, maps[0]), ("b", "c", 0, maps[1])]
    write_features(tables, ResidualMapSettings(), rows, faces_fingerprint=crops)
    write_features(tables, PixelsSettings(), [("a", "c", 0, [1])], faces_fingerprint=crops)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    stacks = names["stacks"]
    assert {name: stack.shape for name, stack in stacks.items()} == dict.fromkeys("ab", (20, 100, 100))
    assert stacks["a"][:, 0, 0].tolist() == [0, 2, *[0] * 18]
