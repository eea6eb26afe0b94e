"""`dfpipe run` does exactly what `dfpipe plan` said, over random histories of a source, its settings and its runs.

What is expected is worked out a second time, from plain lists and without DuckDB, by `History`. It was seen to fail
when the join of the features leaves the attempt out, so that a video that was done again keeps its old features.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random

import pytest

from dfpipe.fingerprint import fingerprint
from dfpipe.plan import plan_faces, plan_features
from dfpipe.preview import make_plan
from dfpipe.provenance import Provenance
from dfpipe.settings import Selection, load_settings
from dfpipe.shards import open_tables
from dfpipe.stages import write_stage
from dfpipe.testing import as_catalog, ledger_row, make_row, make_video, write_catalog

START = datetime(2026, 1, 1, tzinfo=UTC)
OFTEN = 100
"""More shards than there ever are: a run that is not interrupted."""

STATUSES = ("ok", "ok", "no_face", "corrupt", "timeout", "timeout")


def random_change(random):
    name = random.choice("abcde")
    return random.choice(
        [
            ("add", name, f"{random.choice(STATUSES)}-0"),
            ("change_a_byte", name),
            ("touch", name),
            ("rename_the_label", name),
            ("remove", name),
            ("change_the_crop", random.choice([0.0, 0.2])),
            ("change_the_limits", random.choice([300, 900])),
        ]
    )


def random_selection(random):
    return random.choice(
        [
            {},
            {},
            {"videos": random.sample(["a", "[b-d]", "*"], 2)},
            {"datasets": ["even"]},
            {"retry": random.sample(["ok", "corrupt", "timeout"], 2)},
        ]
    )


class History:
    """A store beside a plain list of what was done in it."""

    def __init__(self, folder):
        self.folder = folder
        self.tables = open_tables(self.folder, self.settings_with(0.0, 300).s3)
        self.videos = {}
        self.margin, self.timeout = 0.0, 300
        self.done = []
        self.featured = set()
        self.clock = self.runs = 0

    def add(self, name, content):
        dataset = "even" if name in "bd" else "odd"
        self.videos[name] = make_video(name, content, dataset=dataset, modified=str(self.clock))

    def change_a_byte(self, name):
        if name in self.videos:
            status, number = self.videos[name].content_id.split("-")
            self.alter(name, content_id=f"{status}-{1 - int(number)}")

    def touch(self, name):
        self.alter(name, modified=f"{self.clock}1")

    def rename_the_label(self, name):
        self.alter(name, label="fake")

    def remove(self, name):
        self.videos.pop(name, None)

    def change_the_crop(self, margin):
        self.margin = margin

    def change_the_limits(self, timeout):
        self.timeout = timeout

    def run(self, chosen=(), shards=OFTEN):
        chosen = dict(chosen)
        catalog = as_catalog(self.videos.values())
        ids = set(self.videos)
        # What matches nothing is an error, of which another test tells.
        matched = all(self.matching(ids, pattern) for pattern in chosen.get("videos", []))
        if not matched or ("datasets" in chosen and not ids & set("bd")):
            chosen = {}
        selection, now = Selection(**chosen), self.settings_with(self.margin, self.timeout)

        expected = self.expect(chosen)
        faces = self.promise(now, catalog, selection)[1]
        promised = plan_faces(catalog, self.tables, now, selection=selection)
        rows = [
            (row["video_id"], row["content_id"], row["attempt"], row["reason"]) for row in promised.todo.to_pylist()
        ]
        assert rows == expected
        assert faces.reasons == Counter(reason for *_, reason in expected)
        assert faces.todo + faces.kept == len(ids)
        assert faces.gone == len({row["video"] for row in self.done} - ids)

        executed = self.execute(now, catalog, selection, shards)
        assert executed == [row[:3] for row in expected[: 2 * shards]]
        if shards == OFTEN:
            assert all(stage.todo == 0 for stage in self.promise(now, catalog, Selection(**chosen | {"retry": []})))

    def promise(self, now, catalog, selection):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dfpipe.preview.list_source", lambda _settings, _known: catalog)
            return make_plan(now, until="features", selection=selection)

    def execute(self, now, catalog, selection, shards):
        """Do as the flow does, with rows made up instead of extracted; return what the ledger says that was done."""
        self.runs += 1
        by = Provenance(f"run {self.runs}")
        write_catalog(self.tables, list(self.videos.values()))
        plan = plan_faces(catalog, self.tables, now, selection=selection)
        write_stage(self.tables, plan.stage)
        for shard in islice(plan.shards(), shards):
            rows = [self.extract(video, by) for video in shard.videos]
            keys = [video.key for video in shard.videos]
            works = self.tables.settle({"videos": rows}, keys, fingerprint=plan.fingerprint, shard=shard.name, by=by)
            self.tables.commit(works, by=by)
        self.compute(now, plan.fingerprint, shards, by)
        ledger = self.tables.read("videos", columns=["video_id", "content_id", "attempt", "run_id"]).to_pylist()
        return sorted(
            (row["video_id"], row["content_id"], row["attempt"]) for row in ledger if row["run_id"] == by.run_id
        )

    def extract(self, video, by):
        self.clock += 1
        status = video.content_id.partition("-")[0]
        if status == "timeout" and self.timeout > 300:
            status = "ok"
        row = {"video": video.video_id, "content": video.content_id, "attempt": video.attempt, "status": status}
        same = [
            one for one in self.done if (one["video"], one["content"], one["margin"]) == (*video.key[:2], self.margin)
        ]
        self.done = [one for one in self.done if one not in same]
        self.done.append(row | {"margin": self.margin, "timeout": self.timeout})
        return ledger_row(
            video,
            status=status,
            limits=fingerprint(self.settings_with(self.margin, self.timeout).limits),
            finished_at=START + timedelta(seconds=self.clock),
            run_id=by.run_id,
        )

    def compute(self, now, stage, shards, by):
        """Compute both feature sets, of which a run that is interrupted finishes less; compare with the plain list."""
        plans = plan_features(self.tables, now.train.features, faces_fingerprint=stage, videos_per_shard=2)
        for plan in plans:
            wanted = {
                (one["video"], one["content"], one["attempt"])
                for one in self.done
                if one["margin"] == self.margin and one["status"] == "ok"
            }
            left = {key for key in wanted if (plan.fingerprint, key) not in self.featured}
            works = list(plan.works())
            keys = [key for work in works for key in work.videos]
            assert sorted(keys) == sorted(left)
            assert plan.kept == len(wanted - left)
            for work in works[:shards]:
                columns = {"feature": plan.settings.name, "dtype": "|u1"}
                rows = [make_row("features", video_id=key[0], content_id=key[1], **columns) for key in work.videos]
                settled = self.tables.settle(
                    {"features": rows}, work.videos, fingerprint=plan.fingerprint, shard=work.name, by=by
                )
                self.tables.commit(settled, by=by)
                self.featured |= {(plan.fingerprint, key) for key in work.videos}

    def expect(self, chosen):
        """Work out from the plain list what a run would do, and why."""
        found = []
        for name in sorted(self.videos):
            video = self.videos[name]
            if chosen.get("videos") and not any(self.matching({name}, pattern) for pattern in chosen["videos"]):
                continue
            if chosen.get("datasets", [video.dataset]) != [video.dataset]:
                continue
            of_it = [one for one in self.done if one["video"] == name]
            same = [one for one in of_it if (one["content"], one["margin"]) == (video.content_id, self.margin)]
            attempt = same[0]["attempt"] + 1 if same else 1
            if same and same[0]["status"] == "timeout" and same[0]["timeout"] != self.timeout:
                reason = "failed before under other limits"
            elif same and same[0]["status"] in chosen.get("retry", []):
                reason = "asked for again"
            elif same:
                continue
            elif not of_it:
                reason = "new"
            elif of_it[-1]["content"] != video.content_id:
                reason = "content changed"
            else:
                reason = f"settings changed: extract.crop.margin_fraction {of_it[-1]['margin']} -> {self.margin}"
            found.append((name, video.content_id, attempt, reason))
        return found

    def matching(self, ids, pattern):
        return ids & set({"a": "a", "[b-d]": "bcd", "*": "abcde"}[pattern])

    def alter(self, name, **columns):
        if name in self.videos:
            video = {field: getattr(self.videos[name], field) for field in self.videos[name].__slots__} | columns
            self.videos[name] = make_video(video.pop("video_id"), video.pop("content_id"), **video)

    def settings_with(self, margin, timeout):
        values = {
            "store": self.folder,
            "videos_per_shard": 2,
            "extract.crop.margin_fraction": margin,
            "limits.timeout_seconds": timeout,
        }
        return load_settings(overrides=[f"{key}={value}" for key, value in values.items()], environ={})


@pytest.mark.parametrize("seed", range(6))
def test_a_run_does_what_the_plan_said(tmp_path, seed):
    random = Random(seed)
    history = History(str(tmp_path))
    for name in "abcde":
        history.add(name, f"{random.choice(STATUSES)}-0")
    for _ in range(10):
        for _ in range(random.randint(0, 3)):
            change, *how = random_change(random)
            getattr(history, change)(*how)
        # Most nights end well, some after no shard or one.
        history.run(random_selection(random), random.choice([OFTEN, OFTEN, OFTEN, 0, 1]))


def test_touching_and_changing_back_redo_nothing(tmp_path):
    """The same by hand, as it is what people rely on every night."""
    history = History(str(tmp_path))
    history.add("a", "ok-0")
    history.run()
    history.touch("a")
    history.rename_the_label("a")
    assert history.expect({}) == []
    history.run()
    history.change_the_crop(0.2)
    history.run()
    history.change_the_crop(0.0)
    assert history.expect({}) == []
    history.run()
    history.change_a_byte("a")
    assert [row[3] for row in history.expect({})] == ["content changed"]
    history.run()
