import pytest
from small_networks import Small

from cd_exp.errors import InputError
from cd_exp.hooks import get_module, resolve_patterns


@pytest.fixture
def network():
    return Small()


def test_patterns_match_within_a_level_in_the_order_of_the_network(network):
    requests = resolve_patterns(network, ["fc", "blocks.*", "conv:max"], name="small")
    assert [one.name for one in requests] == ["conv:max", "blocks.0", "blocks.1", "fc"]
    assert [one.module for one in resolve_patterns(network, ["blocks.*.1"], name="small")] == [
        "blocks.0.1",
        "blocks.1.1",
    ]


def test_an_unknown_layer_names_the_nearest(network):
    with pytest.raises(InputError, match=r"layer 'block' is not in small; did you mean 'blocks'\?"):
        resolve_patterns(network, ["block"], name="small")
    with pytest.raises(InputError, match="pooling 'maxx' is not known; did you mean 'max'"):
        resolve_patterns(network, ["fc:maxx"], name="small")


def test_call_element_and_pooling_go_together(network):
    (one,) = resolve_patterns(network, ["pair@2/1/more:max"], name="small")
    assert (one.name, one.module, one.call, one.element, one.pool) == ("pair@2/1/more:max", "pair", 2, "1/more", "max")
    (plain,) = resolve_patterns(network, ["pair"], name="small")
    assert (plain.call, plain.element, plain.pool) == (None, None, "auto")
    assert get_module("blocks.3@2/1:max") == "blocks.3"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("fc@0", "'0' is no call; calls are counted from 1, as in fc@1"),
        ("fc@x", "'x' is no call"),
        ("fc/", "ends in '/'; name an element"),
        ("@1", "write PATH, PATH@CALL"),
        ("", "write PATH"),
    ],
)
def test_what_is_not_written_as_a_layer_is_refused(network, pattern, message):
    with pytest.raises(InputError, match=message):
        resolve_patterns(network, [pattern], name="small")


def test_a_module_of_two_names_is_reported_once_under_the_first_that_was_asked_for(network):
    assert [one.name for one in resolve_patterns(network, ["fc", "alias"], name="small")] == ["fc"]
    assert [one.name for one in resolve_patterns(network, ["alias"], name="small")] == ["alias"]
    assert [one.name for one in resolve_patterns(network, ["*"], name="small")].count("alias") == 0
