import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp import concepts
from cd_exp.errors import InputError
from cd_exp.io.text import read_lines, read_list
from cd_exp.models import read_names


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
        (b"cat\nd\x1b[31mog\n", r"line 2 holds the control character U\+001B at column 2"),
        (b"cat\n\ndo\x00gs", r"line 3 holds the control character U\+0000 at column 3"),  # of even length
        (b"cat\x00dog\nwolf\x00fox\n", r"line 1 holds the control character U\+0000 at column 4"),
        (b"cat\n\ndo\x00g", r"line 3 holds the control character U\+0000 at column 3"),
        (b"cat\rdog\x0c", r"line 2 holds the control character U\+000C"),
        ("cat\n\ufeffdog".encode(), r"line 2 holds the control character U\+FEFF at column 1"),  # two files joined
        ("cat\ndog\x85".encode(), r"line 2 holds the control character U\+0085"),
        (b'["cat", "d\\u0000"]', r"line 2 holds the control character U\+0000"),
        (b"\xff\xfec\x00\x00", r"is not UTF-16: line 1, byte 5"),
        (b'{"0": "cat"}', r"is JSON, an object; give a list of strings"),
        (b'["cat", 3]', r"is JSON, a list that holds other things than strings"),
        (b'[\n "cat",\n "dog",\n]', r"looks like JSON and is broken \(line [34]: .*; give one name a line"),
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


REFUSED = [
    ('"tench"\n\n"goldfish"\n', "every line stands in quotes"),
    ("'tench',\n'goldfish',\n", "every line stands in quotes"),
    ("\u201ctench\u201d\n\u201cgoldfish\u201d\n", "every line stands in quotes"),
    ("`tench`\n`goldfish`\n", "every line stands in quotes"),
    ('"tench",12\n"goldfish",7\n', "every line stands in quotes"),  # once its counts are off
    ("tench,\ngoldfish,\n", "every line ends in a comma"),
    ("- tench\n- goldfish\n", "every line begins with `- `"),
    ("names:\n- tench\n- goldfish\n- shark\n", "every line begins with `- `"),
    ("* tench\n* goldfish\n", r"every line begins with '\*'"),
    ("\u2022 tench\n\u2022 goldfish\n", "every line begins with"),
    ("#tench\n#goldfish\n", "every line begins with '#'"),
    ("tench |\ngoldfish |\n", r"every line ends in '\|'"),
    ("a tench.\na goldfish.\na shark.\n", r"every line ends in '\.'"),
    ("n01440764 tench, Tinca tinca\nn01443537 goldfish\n", "every line begins with a WordNet number"),
    ("/m/011k07,Tortoise\n/m/011q46kg,Container\n", "every line begins with a code"),
    ("tench.n.01 a freshwater fish\ngoldfish.n.01 a golden fish\n", "every line begins with a code"),
    ("Q146\tcat\nQ144\tdog\n", "every line begins with a code"),
    ("n01440764\nn01443537\n", "every line is a code"),
    ("/m/011k07\n/m/011q46kg\n", "every line is a code"),
    ("tench.n.01\ngoldfish.n.01\n", "every line is a code"),
    ('["n01440764", "n01443537"]', "every line is a code"),
    ("0\n1\n2\n", "every line is a number"),
    ("0.5\n0.25\n", "every line is a number"),
    ('["3", "4"]', "every line is a number"),
    ("0\n1\n2\n", "names that are numbers go into a list of texts in place of the file"),
    ("0 cat\n1 dog\n", "every line begins with a running number"),
    ("0 tench\n1\n2 shark\n", "every line begins with a running number"),  # a unit without a name
    ("1. tench\n2.\n3. shark\n", "every line begins with a running number"),
    ("tench\t1\n2\nshark\t3\n", r"a line has a second column behind a tab, 'tench\\t1'"),
    ("0\ttench\n1\tgoldfish\n2\tshark\n", "every line begins with a running number"),
    ("1. tench\n2. goldfish\n3. shark\n", r"running number, as '3. shark'; give the names alone, one a line"),
    ("[0] tench\n[1] goldfish\n[2] shark\n", "every line begins with a running number"),
    ("     12 you\n      7 are\n      3 here\n", "every line begins with a number"),  # uniq -c
    ("17,tench\n4,goldfish\n", "every line begins with a number"),
    ("{0: 'tench',\n 1: 'goldfish',\n 2: 'shark'}\n", "is a list of a programming language"),
    ("{0: 'tench', 1: 'goldfish'}\n", "is a list of a programming language"),
    ("index,name\n0,tench\n1,goldfish\n2,shark\n", "every line begins with a running number"),
    ("name,count\ntench,12\ngoldfish,7\n", "line 1 is the heading of a table, 'name,count'; leave it out"),
    ("tench,fish\ngoldfish,fish\n", "every line has a second column"),
    ("tench\tfish\ngoldfish\tfish\n", "every line has a second column"),
    ("tench; fish\ngoldfish; fish\n", "every line has a second column"),
    ("tench | fish\ngoldfish | fish\n", "every line has a second column"),
    ("tench -> fish\ngoldfish -> fish\n", "every line has a second column"),
    ("tench = fish\ngoldfish = fish\n", "every line has a second column"),
    ("tench   fish\ngoldfish   fish\n", "every line has a second column"),
    ("tench: a fish\ngoldfish: a golden fish\nshark: a large fish\n", "every line has a second column"),
    ("tench - fish\ngoldfish - fish\nshark - fish\n", "every line has a second column"),
    ("a, fish\nb, fish\nc, bird\nd, bird\n", "every line has a second column"),
    ("[tench]\n[goldfish]\n", "every line stands in brackets"),
    ("<class>tench</class>\n<class>goldfish</class>\n", "every line stands in brackets"),
    ('{"name": "tench"}\n{"name": "goldfish"}\n', "every line stands in brackets"),
    ("tench (fish)\ngoldfish (fish)\nshark (fish)\n", "every line has brackets"),
    ("(fish) tench\n(fish) goldfish\n(fish) shark\n", "every line has brackets"),
    ("tench (12)\ngoldfish (7)\nshark (3)\n", "every line has brackets"),
    ("['tench', 'goldfish']\n", "is a list of a programming language"),
    ("['tench', 'goldfish',\n 'shark']\n", "is a list of a programming language"),
    ("['tench' 'goldfish'\n 'shark']\n", "is a list of a programming language"),  # as numpy prints it
    ("classes = ['tench', 'goldfish']\n", "is a list of a programming language"),
    ("classes = [\n    'tench',\n    'goldfish',\n]\n", "is a list of a programming language"),
    ("('tench', 'goldfish')\n", "is a list of a programming language"),
    ("tench, goldfish, shark\n", "holds one line, of several names"),
    ("tench\tgoldfish\n", "holds one line, of several names"),
    ("# the classes of ImageNet\ntench\ngoldfish\n", "line 1 is a comment"),
    ("<!DOCTYPE html>\n<p>404</p>\n", "is no list; fetch the file itself"),
    ("<?xml version='1.0'?>\n<a>tench</a>\n", "is no list; fetch the file itself"),
    ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is no list; fetch the file itself"),
    ('{"tench": 0, "goldfish": 1}', "is JSON, an object"),
    ('{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}', "is JSON, an object"),
    ('{"tench": {"parts": ["fins"]}}', "is JSON, an object"),
    ('{"tench": ["fins", 3]}', "is JSON, lists that hold other things than strings"),
    ("cat " * 10_000 + "\ndog", "line 1 has 39999 characters, of at most 1000; give one name a line"),
    ("[" * 100_000 + "]" * 100_000, "is JSON nested too deeply|looks like JSON and is broken|programming language"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_every_line_has_and_no_name_is_refused(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_list(tmp_path / "list.txt", setting="model.class_names", flatten=True)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


SHORTENED = [
    ("you 28787591\ni 27086011\nthe 22761659\n", ["you", "i", "the"], "'you 28787591' -> 'you'"),
    ("tench,12\ngoldfish,7\n", ["tench", "goldfish"], "'tench,12' -> 'tench'"),
    ("tench\t0.53\ngoldfish\t1e-4\n", ["tench", "goldfish"], "'tench'"),
    ("tench: 12\n\ngoldfish: 7\n", ["tench", "", "goldfish"], "'tench: 12'"),
    ("tench|12|0.5\ngoldfish|7|0.25\n", ["tench", "goldfish"], "'tench|12|0.5' -> 'tench'"),
    ("sea lion 12 50%\nred fox 7 25%\nowl 3 12%\n", ["sea lion", "red fox", "owl"], "-> 'sea lion'"),
    ("the 1,234,567\nof 23,456\nand 345\n", ["the", "of", "and"], "'the 1,234,567' -> 'the'"),
    ("tench n01440764\ngoldfish n01443537\nshark n01484850\n", ["tench", "goldfish", "shark"], "-> 'tench'"),
    ("tench;Q215980\ngoldfish;Q2\n", ["tench", "goldfish"], "'tench;Q215980'"),
    ("tench /m/0cyhj\ngoldfish /m/03fj2\nshark /m/0by6g\n", ["tench", "goldfish", "shark"], "-> 'tench'"),
    ("/a/abbey 0\n/a/airplane_cabin 1\n", ["abbey", "airplane_cabin"], "'/a/abbey 0' -> 'abbey'"),
    ("/a/abbey\n/b/bakery/shop\n", ["abbey", "bakery/shop"], "'/a/abbey' -> 'abbey'"),
]


@pytest.mark.parametrize(("text", "names", "note"), SHORTENED, ids=range(len(SHORTENED)))
def test_numbers_and_codes_behind_every_name_are_taken_off_and_said(tmp_path, text, names, note):
    (tmp_path / "list.txt").write_text(text)
    read = read_list(tmp_path / "list.txt", setting="x")
    assert read.names == names
    (said,) = read.notes
    assert note in said
    (tmp_path / "again.txt").write_text("\n".join(names))
    again = read_list(tmp_path / "again.txt", setting="x")
    assert (again.names, again.notes) == (names, ())


@pytest.mark.parametrize(
    "names",
    [
        ["7 eleven", "1 dollar", ""],
        ["1 pound", "2 pounds"],
        ['"', "'", "a"],
        ["", ""],
        ["'em'"],
        ["tench, Tinca tinca", "goldfish, Carassius auratus"],
        ["tench, Tinca tinca"],
        ["-", "- minus", "plus,"],
        ["class 0", "class 1", "class 2"],
        ["2D", "3D", "4D"],
        ["crane (bird)", "crane (machine)"],
        ["tractor (farm)", "cat", "dog"],
        ["Fahrenheit 451", "Apollo 13"],
        ["Audi S4 Sedan 2012", "BMW M3 Coupe 2012", "Ford Fiesta 2011"],
        ["black-and-white", "salt: sea", "a = b"],
        ["C#", "F#", "basic"],
        ["U.S.", "etc."],
        ["寿司", "ラーメン"],
        ["vitamin B12", "vitamin B6", "vitamin C"],
        ["deadbeef", "facade"],
    ],
)
def test_names_that_only_look_like_another_format_stand(tmp_path, names):
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in names))
    read = read_list(tmp_path / "list.txt", setting="x")
    assert (read.names, read.notes) == (names, ())


def test_a_dictionary_of_classes_is_one_list_where_it_is_asked_for(tmp_path):
    (tmp_path / "cub.json").write_text(
        json.dumps({"gull": ["white wings", "a bill"], "crow": ["black wings", "a bill"]})
    )
    read = read_list(tmp_path / "cub.json", setting="concepts.path", flatten=True)
    assert read.names == ["white wings", "a bill", "black wings", "a bill"]
    made = concepts.file(path=str(tmp_path / "cub.json"))
    assert made.names == ("white wings", "a bill", "black wings")
    assert "a dictionary of 2 classes, read as one list of their 4 concepts" in made.notes[0]
    assert "duplicate lines left out: 1 (4)" in made.notes[1]
    with pytest.raises(InputError, match="is JSON, an object; give a list of strings"):
        read_list(tmp_path / "cub.json", setting="model.class_names")


def test_names_of_units_come_in_the_order_of_their_numbers(tmp_path):
    (tmp_path / "classes.txt").write_text("shark 2\ntench 0\ngoldfish 1\n")
    assert read_names(str(tmp_path / "classes.txt")) == ("tench", "goldfish", "shark")
    (tmp_path / "classes.txt").write_text("shark,2\ntench,1\n")
    assert read_names(str(tmp_path / "classes.txt")) == ("tench", "shark")
    (tmp_path / "classes.txt").write_text("shark 1200\ntench 1100\ngoldfish 900\n")  # counts
    assert read_names(str(tmp_path / "classes.txt")) == ("shark", "tench", "goldfish")


WORD = st.from_regex(r"[a-z][a-z']{0,8}[a-z]( [a-z]{2,8})?", fullmatch=True)
WORDS = st.lists(WORD, min_size=4, max_size=12, unique=True)
SEPARATOR = st.sampled_from([" ", "\t", ",", ", ", ";", "; ", ": ", " | ", "|", "  "])
NUMBERS = st.one_of(st.integers(0, 10**9).map(str), st.floats(0, 1, allow_nan=False).map(lambda x: f"{x:.3g}"))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(words=WORDS, separator=SEPARATOR, columns=st.integers(0, 3), data=st.data())
def test_no_number_behind_a_name_is_ever_a_part_of_it(words, separator, columns, data):
    rows = [[word, *(data.draw(NUMBERS) for _ in range(columns))] for word in words]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "list.txt").write_text("\n".join(separator.join(row) for row in rows))
        read = read_list(Path(folder) / "list.txt", setting="x")
    if columns and separator in (" ", "  ") and list(read.names) != words:  # years alone belong to the names
        assert all(1900 <= int(row[-1]) < 2100 for row in rows if row[-1].isdecimal())
        return
    assert list(read.names) == words
    assert len(read.notes) == (columns > 0)


AROUND = st.sampled_from(
    [('"', '"'), ("'", "',"), ("- ", ""), ("* ", ""), ("[", "]"), ("(", ")"), ("", ","), ("", ";"), ("", "\tfish"),
     ("", ",fish"), ("", " (fish)"), ("", " -> fish"), ("", " | fish"), ("<li>", "</li>"), ("fish\t", ""),
     ("\\item{", "}"), ("n01440764 ", ""), ("/m/0abc,", ""), ("17,", ""), ("12 ", ""), ("> ", ""),
     ("x.n.01 ", ""), ("~", "~")]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(words=WORDS, around=AROUND, heading=st.booleans())
def test_what_all_names_have_in_common_is_refused(words, around, heading):
    lines = [f"{around[0]}{word}{around[1]}" for word in words]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "list.txt").write_text("\n".join((["classes"] if heading else []) + lines))
        with pytest.raises(InputError, match=r"give the names alone, one a line|give one name a line"):
            read_list(Path(folder) / "list.txt", setting="x")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", None], r"x holds None, which is no text; put it in quotes, or '' where nothing is known of a unit"),
        (["cat", 7], "x holds 7, which is no text"),
        ([True, "cat"], "x holds True, which is no text"),
        ([["cat"], "dog"], r"x holds \['cat'\], which is no text"),
        ({"cat", "dog"}, "x is of type set; expected a file, or a list of names in order"),
        ({"cat": 0}, "x is of type dict; expected"),
        (None, "x is of type NoneType; expected"),
        ([], "x holds no name; give one per unit, or leave x out where nothing is known"),
    ],
)
def test_a_list_of_names_holds_texts_in_an_order(names, message):
    with pytest.raises(InputError, match=message):
        read_names(names, setting="x")


@pytest.mark.parametrize("content", ["", "\n\n", "[]"])
def test_a_file_without_a_name_is_no_list_of_names(tmp_path, content):
    (tmp_path / "classes.txt").write_text(content)
    with pytest.raises(InputError, match=r"x=.*classes.txt holds no name; give one per unit, or leave x out"):
        read_names(str(tmp_path / "classes.txt"), setting="x")
