import pytest

from dfpipe.errors import SettingsError, StoreError
from dfpipe.synth.workshop import check_strength, claim_folder, run_all


def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_has_bounds(strength):
    with pytest.raises(SettingsError, match="expected 0"):
        check_strength(strength)


def test_a_folder_is_claimed_once_and_again_by_the_same_plan(tmp_path):
    claim_folder(tmp_path / "new" / "set", {"seed": 1})
    claim_folder(tmp_path / "new" / "set", {"seed": 1})
    with pytest.raises(StoreError, match="other options"):
        claim_folder(tmp_path / "new" / "set", {"seed": 2})


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="not empty"):
        claim_folder(tmp_path, {"seed": 1})


def test_a_file_in_the_way_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        claim_folder(tmp_path / "file", {"seed": 1})


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_keep_the_order_of_the_work_and_progress_reaches_the_end(jobs):
    steps = []
    results = run_all(double, [3, 1, 2], jobs=jobs, on_progress=lambda done, total: steps.append((done, total)))
    assert results == [6, 2, 4]
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_no_process_does_no_work():
    with pytest.raises(SettingsError, match="got 0 jobs"):
        run_all(double, [1], jobs=0, on_progress=None)
