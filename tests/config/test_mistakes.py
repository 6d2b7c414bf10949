"""Mistakes: how one reads, and that mending never loops or hides one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.mistakes import Mistakes, dotted, validated
from gateway.config.tables import File


def test_a_place_reads_as_the_engineer_would_say_it() -> None:
    assert dotted(("links", 1, "probes", 0, "id")) == "links[1].probes[0].id"
    assert dotted(()) == "file"


def test_a_place_is_told_once_and_nothing_below_a_told_place() -> None:
    mistakes = Mistakes("f")
    mistakes.add(("a",), "wrong", 1)
    mistakes.add(("a",), "wrong again", 1)
    mistakes.add(("a", "b"), "below")
    assert mistakes.found == ["f: a = 1: wrong"]


@pytest.mark.parametrize("key", ["key", "key_sha256", "device_key"])
def test_what_may_be_a_secret_is_not_shown(key: str) -> None:
    mistakes = Mistakes("f")
    mistakes.add(("x", key), "wrong", "s3cret")
    assert mistakes.found == [f"f: x.{key}: wrong"]


def test_a_long_value_is_cut() -> None:
    mistakes = Mistakes("f")
    mistakes.add(("x",), "wrong", "y" * 500)
    assert len(mistakes.found[0]) < 100


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(
        st.sampled_from(["gateway", "links", "tenants", "upstreams", "id", "probes", "priority",
                         "clients", "ods", "listen", "port", "maintenance", "base_urls", "x"]),
        below, max_size=5), max_leaves=20)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["gateway", "links", "tenants", "upstreams", "mqtt", "y"]),
                       TREES, max_size=5))
def test_any_tree_gives_a_value_or_at_least_one_mistake(raw: dict[str, object]) -> None:
    mistakes = Mistakes("f")
    value = validated(File, raw, mistakes)
    assert value is not None or mistakes.found
    assert len(set(mistakes.found)) == len(mistakes.found)
