"""Files that change while a run reads them: what is decoded is what was fingerprinted, or the run stops and says so."""

import csv
import io
import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cd_exp import probes
from cd_exp.cli import entry
from cd_exp.errors import InputError

COUNT = 4


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def as_it_was(path: Path, content: bytes) -> None:
    """Other content under the same size and times, as a copy that keeps them has."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


ACTIONS = {
    "replaced": lambda path: path.write_bytes(png(99)),
    "replaced, its time kept": lambda path: as_it_was(path, png(98)),
    "damaged within": lambda path: as_it_was(path, path.read_bytes()[:-4] + b"\0\0\0\0"),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "emptied": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "written anew as it was": lambda path: path.write_bytes(path.read_bytes()),
    "moved away and back": lambda path: path.rename(path.with_suffix(".x")).rename(path),
    "a link to another": lambda path: (path.unlink(), path.symlink_to(path.parent / "other.bin")),
    "a named pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "touched": lambda path: os.utime(path),
}


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


@settings(max_examples=60, deadline=None)
@given(
    actions=st.dictionaries(st.integers(0, COUNT - 1), st.sampled_from(sorted(ACTIONS)), max_size=3),
    broken=st.booleans(),
    part=st.booleans(),
    remember=st.booleans(),
)
def test_what_is_decoded_is_what_was_fingerprinted(actions, broken, part, remember):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "photos"
        root.mkdir()
        (root / "other.bin").write_bytes(png(97))
        files = [root / f"{number}.png" for number in range(COUNT)]
        for number, path in enumerate(files):
            path.write_bytes(png(number))
        if broken:
            files[0].write_bytes(b"no picture")
        limit = COUNT - 1 if part else None
        cache = str(Path(name) / "cache") if remember else None
        probe = probes.with_common_settings(probes.folder, {"root": str(root), "limit": limit, "cache": cache})
        first, before = probe.fingerprint, [content(path) for path in files]
        for number, action in actions.items():
            ACTIONS[action](files[number])
        for index in range(len(probe)):
            changed = content(files[index]) != before[index]
            if changed:
                with pytest.raises(InputError, match=rf"{index}.png .*run again"):
                    probe[index]
            elif broken and index == 0:
                with pytest.raises(OSError, match="cannot be read as an image"):
                    probe[index]
            else:
                pixels = np.asarray(probe[index])
                np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(before[index]))))
        for path in files:  # the remedy: a run that begins now reads what is there now
            if not path.is_file():
                path.unlink(missing_ok=True)
                path.write_bytes(png(5))
        again = probes.with_common_settings(probes.folder, {"root": str(root), "limit": limit, "cache": cache})
        assert (again.fingerprint == first) == ([content(p) for p in files][:limit] == before[:limit])
        for index in range(len(again)):
            try:
                pixels = np.asarray(again[index])
            except OSError:
                continue
            np.testing.assert_array_equal(pixels, np.asarray(Image.open(files[index]).convert("RGB")))


def test_members_of_a_shard_too(tmp_path):
    def write(seed: int) -> None:
        with tarfile.open(tmp_path / "0.tar", "w") as archive:
            for number in range(3):
                data = png(seed + number)
                member = tarfile.TarInfo(f"{number}.png")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))

    write(0)
    probe = probes.tar(path=str(tmp_path / "0.tar"), cache=str(tmp_path / "cache"))
    assert probe.fingerprint
    write(10)
    with pytest.raises(InputError, match=r"tar 0/1.png is not what it was when the run began.*run again"):
        probe[1]
    again = probes.tar(path=str(tmp_path / "0.tar"), cache=str(tmp_path / "cache"))
    assert again.fingerprint != probe.fingerprint
    np.testing.assert_array_equal(np.asarray(again[1]), np.asarray(Image.open(io.BytesIO(png(11)))))


CLIP = """
import os
from pathlib import Path
import numpy as np
import torch

class Mine:
    \"\"\"What is done to a file goes on at the first picture of the probe set.\"\"\"

    def __init__(self, done, photos, after):
        self.done, self.photos, self.after, self.seen = done, Path(photos), after, 0

    def preprocess(self, picture):
        self.seen += 1
        if self.seen > 2 and picture.size == (6, 6) and self.done and not (self.photos / "done").exists():
            (self.photos / "done").touch()
            last = self.photos / "9.png"
            if self.done == "replace":
                last.write_bytes((self.photos / "0.png").read_bytes())
            else:
                last.rename(self.photos / "away")
        return torch.from_numpy(np.array(picture.resize((4, 4)), dtype=np.float32)).permute(2, 0, 1) / 255

    def encode_image(self, batch):
        return batch.flatten(1)

    def encode_text(self, texts):
        rows = [np.random.default_rng(sum(text.encode())).normal(size=48) for text in texts]
        return np.stack(rows).astype(np.float32)

def mine(*, done="", photos="."):
    return Mine(done, photos, 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("done", ["replace", "away"])
def test_a_run_stops_and_the_next_is_as_from_an_empty_cache(done, tmp_path, monkeypatch, capsys):
    (tmp_path / "clip.py").write_text(CLIP)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(10):
        (photos / f"{number}.png").write_bytes(png(number))
    monkeypatch.chdir(tmp_path)
    words = [
        "probe=folder",
        "probe.root=photos",
        "clip=custom",
        "clip.factory=clip.py:mine",
        f"clip.options.done={done}",
    ]
    words += ["clip.options.photos=photos", "model.layers=[fc]", "concepts=words", "concepts.names=[red,blue,green]"]
    words += ["similarity=cos", "logger=none", "features.workers=0", "features.progress=false", "stability.resamples=0"]
    words += ["report.html=false", "report.figures=false", "report.explorer=none"]

    def run(cache: str, status: int) -> list[dict]:
        monkeypatch.setattr("sys.argv", ["run.py", *words, f"cache.dir={cache}", "hydra.run.dir=out"])
        left = 0
        try:
            entry.main()
        except SystemExit as leaving:
            left = leaving.code
        said = capsys.readouterr().err
        assert left == status, said
        if status:
            assert said.startswith("error: ")
            assert said.count("\n") == 1
            assert "photos/9.png" in said
            assert ("is not what it was" if done == "replace" else "could be read when the run began") in said
            return []
        with Path("out/labels.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    run("cache", 2)
    if done == "away":
        (photos / "away").rename(photos / "9.png")
    assert run("cache", 0) == run("fresh", 0)
