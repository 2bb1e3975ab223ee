import pytest

from cd_exp.errors import InputError
from cd_exp.lines import read_lines


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\n\n b \n\n", ["a", "", " b ", ""]),
        ("a\u2028b\x0cc\n".encode(), ["a\u2028b\x0cc"]),  # one line to every editor and to wc -l
    ],
)
def test_lines_as_they_stand(tmp_path, data, lines):
    (tmp_path / "list.txt").write_bytes(data)
    assert read_lines(tmp_path / "list.txt", setting="x") == lines


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_undecodable_bytes_are_placed(tmp_path, mark):
    (tmp_path / "list.txt").write_bytes(mark + b"first\nna\xefve\n")
    with pytest.raises(InputError, match=r"list.txt is not UTF-8: line 2, byte 3 is 0xef; save it as UTF-8"):
        read_lines(tmp_path / "list.txt", setting="x")


def test_a_missing_file_names_the_setting(tmp_path):
    with pytest.raises(InputError, match=r"concepts.path=.*nowhere.txt: there is no such file \(seen from "):
        read_lines(tmp_path / "nowhere.txt", setting="concepts.path")
