import pytest

from dfpipe.fingerprint import fingerprint
from dfpipe.settings import CropSettings, ExtractSettings


def test_equal_settings_give_equal_digits_and_any_change_others():
    assert fingerprint(ExtractSettings()) == fingerprint(ExtractSettings(crop=CropSettings(size_px=320)))
    assert fingerprint(ExtractSettings()) != fingerprint(ExtractSettings(crop=CropSettings(size_px=224)))
    assert fingerprint("faces", 1) != fingerprint("faces", 2)


def test_it_is_the_same_on_every_machine():
    # A changed value would make every store redo everything after an upgrade.
    assert fingerprint("faces", 1, {"a": [1, None]}) == "57dbe97422d79a9a"


def test_what_has_no_plain_form_is_refused():
    with pytest.raises(TypeError, match="cannot hash a object"):
        fingerprint(object())
