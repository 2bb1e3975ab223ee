"""What a network of the user's own code gave is kept sealed: damage is seen, said, and only costs making it again."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cd_exp.cache import Entry, Store, seal_json
from cd_exp.cache.__main__ import verify_cache
from cd_exp.features.layers import _read_known_outputs

ENTRY = Entry("behaviours", {"layer": "layer4"})
GIVEN = torch.tensor([[0.5, -1.0], [2.0, 3.0]])
OFTEN = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_same_behaviour_within_rounding_has_one_name_and_another_has_another(tmp_path):
    store = Store(tmp_path)
    first = _read_known_outputs(GIVEN, ENTRY, store)
    assert _read_known_outputs(GIVEN + 1e-6, ENTRY, store) == first
    other = _read_known_outputs(-GIVEN, ENTRY, store)
    assert other != first
    assert _read_known_outputs(GIVEN, ENTRY, Store(tmp_path)) == first
    assert _read_known_outputs(-GIVEN, ENTRY, Store(tmp_path)) == other


def test_what_is_kept_passes_for_whole(tmp_path, capsys):
    _read_known_outputs(GIVEN, ENTRY, Store(tmp_path))
    assert verify_cache(tmp_path) == 0, capsys.readouterr().out


def test_a_known_behaviour_is_read_without_writing(tmp_path, monkeypatch):
    store = Store(tmp_path)
    name = _read_known_outputs(GIVEN, ENTRY, store)
    monkeypatch.setattr(Store, "lock", lambda *_: pytest.fail("a cache that may only be read was to be locked"))
    assert _read_known_outputs(GIVEN, ENTRY, Store(tmp_path)) == name


@OFTEN
@given(
    st.binary()
    | st.sampled_from([b"[]", b"null", b"{}", b"[" * 100_000, '{"a": 1}'.encode("utf-16")])
    | st.sampled_from([None, [], 3, {"a": None}, {"a": [["x"]]}, {"a": [[1.0], [1.0, 2.0]]}, "text"]).map(
        lambda value: seal_json({"content": {}, "value": value}).encode()
    )
)
def test_any_bytes_in_place_of_what_is_kept(tmp_path, data):
    store = Store(tmp_path)
    name = _read_known_outputs(GIVEN, ENTRY, store)
    (path,) = tmp_path.glob("behaviours/*.json")
    path.write_bytes(data)
    fresh = Store(tmp_path)
    assert _read_known_outputs(GIVEN, ENTRY, fresh) == name
    assert json.loads(path.read_text())["value"] == {name: GIVEN.tolist()}
    assert verify_cache(tmp_path) == 0
