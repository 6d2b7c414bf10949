"""Rules between tables that the whole file does not show at once (see test_load.py)."""

import pytest

from gateway.config.mistakes import Mistakes
from gateway.config.rules import check, is_loopback, warnings
from gateway.config.tables import File

BASE: dict[str, object] = {
    "gateway": {"name": "x"},
    "listen": {"address": "127.0.0.1"},
    "links": [{"id": "a", "priority": 1, "interface": "eth9", "probes": [
        {"id": "p", "kind": "tcp", "target": "192.0.2.1:1"},
        {"id": "q", "kind": "tcp", "target": "192.0.2.2:1"}]}],
    "tenants": [{"ods": "B81001"}],
    "upstreams": [{"id": "u", "tenants": ["B81001"], "base_url": "https://u.nhs.uk", "pack": "p"}],
}


def told(**tables: object) -> list[str]:
    mistakes = Mistakes("f")
    check(File.model_validate({**BASE, **tables}), mistakes)
    return mistakes.found


def test_the_base_of_these_tests_is_good() -> None:
    assert told() == []


@pytest.mark.parametrize(("tables", "words"), [
    ({"mqtt": {"host": "broker.nhs.uk"}}, "mqtt.ca_file: is needed"),
    ({"mqtt": {"host": "127.0.0.1", "certificate": "x"}}, "certificate and key go together"),
    ({"mqtt": {"host": "127.0.0.1", "will_delay_s": 900}}, "must be more than will_delay_s"),
    ({"mqtt": {"host": "127.0.0.1", "hosts": {"b": "x:1"}}}, "mqtt.hosts.b: no link has this id"),
    ({"tunnel": {"port": 1}}, "tunnel.allow: must name what may be reached"),
    ({"admin": {"address": "192.0.2.1"}}, "must be a loopback address"),
    ({"listen": {"address": "gateway"}}, 'listen.address = "gateway": must be an IP address'),
    ({"listen": {"client_ca": "x"}}, "listen.client_ca: needs a listener certificate"),
])
def test_tables_must_fit_together(tables: dict[str, object], words: str) -> None:
    found = told(**tables)
    assert any(words in line for line in found), found


@pytest.mark.parametrize(("key", "value", "words"), [
    ("base_urls", {"dsl": "https://u.nhs.uk"}, "base_urls.dsl: no link has this id"),
    ("certificates", {"B82002": {"certificate": "c", "key": "file:k"}}, "is no tenant of this"),
    ("aliases", ["https://u.nhs.uk"], "must be http://"),
    ("base_url", "http://u.nhs.uk", "need https"),
])
def test_an_upstream_must_fit_the_rest(key: str, value: object, words: str) -> None:
    upstream = {"id": "u", "tenants": ["B81001"], "base_url": "https://u.nhs.uk", "pack": "p",
                "sni": "x", key: value}
    assert any(words in line for line in told(upstreams=[upstream]))


@pytest.mark.parametrize(("target", "good"), [
    ("u.nhs.uk:443", False), ("u.nhs.uk:80", False), ("v.nhs.uk:443", True)])
def test_a_probe_of_an_upstreams_host_proves_nothing_of_the_link(target: str, good: bool) -> None:
    link = {"id": "a", "priority": 1, "interface": "eth9", "probes": [
        {"id": "p", "kind": "tcp", "target": target},
        {"id": "q", "kind": "tcp", "target": "192.0.2.2:1"}]}
    assert (told(links=[link]) == []) is good


@pytest.mark.parametrize(("resolver", "good"), [
    ("192.0.2.53", True), ("192.0.2.53:5353", True), ("2001:db8::1", True), ("dns.local", False),
    ("192.0.2.53:x", False)])
def test_a_resolver_is_an_address(resolver: str, good: bool) -> None:
    link = {**BASE["links"][0], "resolvers": [resolver]}  # type: ignore[index]
    assert (told(links=[link]) == []) is good


@pytest.mark.parametrize(("other", "good"), [
    ("192.0.2.99", True), ("", True), ("dns.local", False), ("192.0.2.53", False)])
def test_the_other_resolver_is_an_address_and_another(other: str, good: bool) -> None:
    link = {**BASE["links"][0], "resolvers": ["192.0.2.53"],  # type: ignore[index]
            "other_resolver": other}
    assert (told(links=[link]) == []) is good


def test_an_interface_that_is_not_there_is_a_warning() -> None:
    found = warnings(File.model_validate(BASE), frozenset({"lo"}))
    assert any("this machine has no eth9" in line for line in found)


@pytest.mark.parametrize(("host", "loop"), [("127.3.2.1", True), ("::1", True), ("[::1]", True),
                                            ("localhost", True), ("10.0.0.1", False),
                                            ("example", False)])
def test_loopback_is_known(host: str, loop: bool) -> None:
    assert is_loopback(host) is loop


@pytest.mark.parametrize(("table", "words"), [
    ({}, "calendars[0].url: a calendar has either a url or a file"),
    ({"file": "a.ics", "url": "https://x/a.ics"}, "has either a url or a file"),
    ({"file": "a.ics", "link": "z"}, 'calendars[0].link = "z": no link has this id'),
    ({"file": "a.ics", "ca_file": "x"}, "calendars[0].ca_file"),
])
def test_a_calendar_must_fit_the_rest(table: dict[str, object], words: str) -> None:
    found = told(calendars=[{"id": "n", "link": "a", **table}])
    assert any(words in line for line in found), found


def test_a_backup_that_shares_the_primarys_fate_is_warned_of() -> None:
    fates = {"a": ["exchange:X", "carrier:n"], "b": ["exchange:X"], "c": ["carrier:e"]}
    links = [{**BASE["links"][0], "id": name, "priority": n, "fate": fate}  # type: ignore[index]
             for n, (name, fate) in enumerate(fates.items(), 1)]
    found = warnings(File.model_validate({**BASE, "links": links}), None)
    assert [line for line in found if "fate" in line] == [
        "links.fate: a and b share exchange:X: one fault takes both, so neither is a backup for "
        "the other"]
