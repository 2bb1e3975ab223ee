"""A run against a hub and an archive on this machine, with small networks; `python -m benchmarks hub` has the full."""

import pytest

from benchmarks.hub import run


@pytest.mark.slow
def test_a_run_downloads_what_it_needs_once_and_says_what_is_missing():
    only = ("first run", "again, offline", "no hub", "wrong checksum")  # the others take a run's time each
    step = run(quick=True, only=only, runs=1)["step"]
    first, offline = step["first run"], step["again, offline"]
    assert [first["status"], offline["status"]] == [0, 0], step
    assert sorted(first["downloaded"]) == [
        "/cifar-100-binary.tar.gz",
        "/somebody/tiny/resolve/main/open_clip_config.json",
        "/somebody/tiny/resolve/main/open_clip_model.safetensors",
        "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors",
    ]
    assert offline["downloaded"] == []
    assert first["labels"] == offline["labels"] is not None
    failed = {name: result for name, result in step.items() if result["status"]}
    for result in failed.values():
        assert result["status"] == 2
        assert len(result["errors"]) == 1
        assert result["labels"] is None
    model = "timm/{} is not on this machine and "
    for name, words in {
        "no hub": (model.format("test_resnet.r160_in1k/model.safetensors"), "(of HF_ENDPOINT) cannot be reached"),
        "wrong checksum": ("cifar-100-binary.tar.gz is not the file it should be", "set probe.root=DIR"),
    }.items():
        (error,) = failed[name]["errors"]
        assert error.startswith("error: ")
        for text in words:
            assert text in error
