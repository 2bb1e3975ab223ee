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
        ("a\u2028b\tc\n".encode(), ["a\u2028b\tc"]),  # one line to every editor and to wc -l
        (b"a\rb\r\rc", ["a", "b", "", "c"]),  # of old Macintosh programs
        (b"a\r\nb\rc\nd", ["a", "b", "c", "d"]),
        ("ä\r\n寿司\n".encode("utf-16"), ["ä", "寿司"]),
        ("ä\n寿司\n".encode("utf-16-be"), ["ä", "寿司"]),
        ("cat\nrédo\n".encode("utf-16-le"), ["cat", "rédo"]),
        ("\ufeffcat\ndog".encode("utf-32-le"), ["cat", "dog"]),
        (b'["cat", "dog\\u00e9", ""]', ["cat", "dogé", ""]),
        (b'[\n  "cat",\n  "dog"\n]\n', ["cat", "dog"]),
        (b"[cat]\n[dog]\n", ["[cat]", "[dog]"]),
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


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"cat\nd\x1b[31mog\n", r"line 2 holds the control character U\+001B at place 2"),
        (b"cat\n\ndo\x00g", r"line 3 holds the control character U\+0000 at place 3"),
        (b"cat\rdog\x0c", r"line 2 holds the control character U\+000C"),
        ("cat\n\ufeffdog".encode(), r"line 2 holds the control character U\+FEFF at place 1"),  # two files joined
        ("cat\ndog\x85".encode(), r"line 2 holds the control character U\+0085"),
        (b'["cat", "d\\u0000"]', r"line 2 holds the control character U\+0000"),
        (b"\xff\xfec\x00\x00", r"is not UTF-16: line 1, byte 5"),
        (b'{"0": "cat"}', r"is JSON, an object; give a list of strings"),
        (b'["cat", 3]', r"is JSON, a list that holds other things than strings"),
        (b'[\n "cat",\n "dog",\n]', r"looks like JSON and is broken \(line 4: .*; give one name a line"),
        (b'["a\\nb"]', r"entry 1 of the JSON list has a line break"),
    ],
)
def test_what_is_no_list_of_names_is_refused_with_its_line(tmp_path, data, message):
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_lines(tmp_path / "list.txt", setting="x")


def test_a_missing_file_names_the_setting(tmp_path):
    with pytest.raises(InputError, match=r"concepts.path=.*nowhere.txt: there is no such file \(seen from "):
        read_lines(tmp_path / "nowhere.txt", setting="concepts.path")
