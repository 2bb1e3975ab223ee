"""`make same` sees every kind of difference that it is there to see, and passes over what may differ."""

import json

from benchmarks.same import LINES, _differences, _text_differences


def written(folder, *, top1=50.0, label="red", seconds=1.0, images="a", more=()):
    folder.mkdir(parents=True)
    (folder / "labels.csv").write_text(f"layer,unit,description\nfc,0,{label}\n")
    (folder / "metrics.json").write_text(json.dumps({"layers": {"fc": {"top1": top1}}, "seconds": {"total": seconds}}))
    manifest = {"fingerprints": {"images": images}, "images": {"used": 1}, "layers": ["fc"], "commit": str(seconds)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for name in more:
        (folder / name).write_text("layer\n")
    (folder / "said.txt").write_text("error: no such thing\n")


def shown(tmp_path, statuses=(0, 0), **changes):
    written(tmp_path / "before" / "line")
    written(tmp_path / "after" / "line", **changes)
    return list(_differences(tmp_path, "line", list(statuses)))


def test_seconds_and_commits_may_differ(tmp_path):
    assert shown(tmp_path, seconds=2.0) == []


def test_a_label_that_differs_is_shown(tmp_path):
    assert shown(tmp_path, label="blue") == [
        "labels.csv: 2 lines differ",
        "@@ -3 +3 @@",
        "-description fc 0 red",
        "+description fc 0 blue",
    ]


def test_a_metric_that_differs_in_its_last_digit_is_shown(tmp_path):
    assert shown(tmp_path, top1=50.00000000000001)[0] == "metrics.json: 2 lines differ"


def test_columns_and_keys_of_one_side_are_named_and_the_others_compared(tmp_path):
    table, more = "layer,unit,label\nfc,0,red\n", "layer,unit,p,label\nfc,0,.5,red\n"
    assert list(_text_differences("labels.csv", table, more)) == ["labels.csv: only after: p"]
    layers = {"layers": {"fc": {"top1": 1}}}, {"layers": {"fc": {"top1": 2, "dead": 0}}}
    assert list(_text_differences("metrics.json", *map(json.dumps, layers))) == [
        *("metrics.json: only after: dead", "metrics.json: 2 lines differ", "@@ -1 +1 @@"),
        *("-layers/fc/top1 1", "+layers/fc/top1 2"),
    ]


def test_a_fingerprint_that_differs_is_shown(tmp_path):
    assert shown(tmp_path, images="b")[0] == "manifest.json: 2 lines differ"


def test_a_table_that_only_one_has_is_shown(tmp_path):
    assert shown(tmp_path, more=["labels_invert.csv"]) == ["labels_invert.csv: only after"]


def test_a_failure_of_both_is_no_agreement(tmp_path):
    assert shown(tmp_path, (2, 2))[:2] == ["before: exit status 2", "error: no such thing"]


def test_what_must_run():
    assert len(LINES) >= 24
    typed = " ".join(setting for line in LINES.values() for setting in line)
    wanted = ["judge=annotations", "judge=clip", "judge=images", "units=sae", "units=directions", "units=matrix"]
    wanted += ["probe=concat", "probe.limit", "-m", "distributed.processes=2", "experiment=real_photos"]
    assert [setting for setting in wanted if setting not in typed] == []
