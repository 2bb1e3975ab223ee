import pytest

from cd_exp.errors import InputError
from cd_exp.io.text import read_lines, read_list


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"tench"\n\n"goldfish"\n', "every line stands in quotes"),
        ("'tench',\n'goldfish',\n", "every line stands in quotes"),
        ("tench,\ngoldfish,\n", "every line ends in a comma"),
        ("- tench\n- goldfish\n", "every line begins with `- `"),
        ("n01440764 tench, Tinca tinca\nn01443537 goldfish\n", "every line begins with a WordNet number"),
        ("0\ttench\n1\tgoldfish\n2\tshark\n", "every line begins with a running number"),
        ("1. tench\n2. goldfish\n3. shark\n", r"running number, as '3. shark'; give the names alone, one a line"),
        ("{0: 'tench',\n 1: 'goldfish',\n 2: 'shark'}\n", "every line begins with a running number"),
        ("index,name\n0,tench\n1,goldfish\n2,shark\n", "every line begins with a running number"),
        ("<!DOCTYPE html>\n<p>404</p>\n", "is no list; fetch the file itself"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is no list; fetch the file itself"),
    ],
)
def test_what_every_line_has_and_no_name_is_refused(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_list(tmp_path / "list.txt", setting="model.class_names")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "names",
    [
        ["0", "1", "2"],
        ["7 eleven", "1 dollar", ""],
        ["1 pound", "2 pounds"],
        ['"', "'", "a"],
        ["", ""],
        ["'em'"],
        ["tench, Tinca tinca", "goldfish, Carassius auratus"],
        ["-", "- minus", "plus,"],
        ["class 0", "class 1", "class 2"],
        ["2D", "3D", "4D"],
        ["n01440764", "n01443537"],
    ],
)
def test_names_that_only_look_like_another_format_stand(tmp_path, names):
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in names))
    assert read_list(tmp_path / "list.txt", setting="x") == names
