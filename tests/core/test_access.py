"""Credentials name one client of one practice, agree with each other, or open nothing."""

import base64
import hashlib

import pytest

from gateway.core.access import REFUSED, Client, Credentials, Tenant, credentials, identify
from gateway.core.message import Headers
from gateway.core.wire import Refusal


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


DESK = Client("desk", networks=("10.1.0.0/16", "2001:db8::/32"))
HUB = Client("hub", key_sha256=sha("hub-key"), certificate_sha256="ab" * 32)
TRIAGE = Client("triage", key_sha256=sha("triage-key"))
SURGERY = Tenant("B81001", (DESK, HUB, TRIAGE))
OTHER = Tenant("Y00001", (Client("hub", sha("other-key"), "cd" * 32, ("10.1.2.0/24",)),))
TENANTS = (SURGERY, OTHER)


def basic(user: str, password: str) -> tuple[str, str]:
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return ("Proxy-Authorization", f"Basic {text}")


def who(
    headers: Headers, ods: str | None = "B81001", certificate: str = "", peer: str = "192.0.2.1"
) -> tuple[str, str] | None:
    found = identify(TENANTS, ods, credentials(headers, certificate, peer))
    return None if isinstance(found, Refusal) else (found[0].ods, found[1].id)


HUB_KEY = ("X-Gateway-Key", "hub-key")


@pytest.mark.parametrize(
    ("headers", "certificate", "peer", "client"),
    [
        ((HUB_KEY,), "", "192.0.2.1", "hub"),
        ((basic("B81001", "hub-key"),), "", "192.0.2.1", "hub"),
        ((), "ab" * 32, "192.0.2.1", "hub"),
        ((HUB_KEY, basic("B81001", "hub-key")), "ab" * 32, "192.0.2.1", "hub"),
        ((), "", "10.1.9.9", "desk"),
        ((), "", "::ffff:10.1.9.9", "desk"),
        ((), "", "2001:db8::7", "desk"),
        ((HUB_KEY,), "", "10.1.9.9", "hub"),
    ],
)
def test_each_credential_names_its_client(
    headers: Headers, certificate: str, peer: str, client: str
) -> None:
    assert who(headers, "B81001", certificate, peer) == ("B81001", client)
    assert who(headers, "Y00001", certificate, peer) is None


@pytest.mark.parametrize(
    ("headers", "certificate", "peer"),
    [
        ((), "", "192.0.2.1"),
        ((), "", ""),
        ((("X-Gateway-Key", ""),), "", "10.1.9.9"),
        ((("X-Gateway-Key", "wrong"),), "", "10.1.9.9"),
        ((HUB_KEY, ("X-Gateway-Key", "triage-key")), "", "192.0.2.1"),
        ((HUB_KEY,), "cd" * 32, "192.0.2.1"),
        ((HUB_KEY,), "ee" * 32, "192.0.2.1"),
        ((basic("Y00001", "hub-key"),), "", "192.0.2.1"),
        ((HUB_KEY, ("Proxy-Authorization", "Bearer x")), "", "192.0.2.1"),
        ((("Proxy-Authorization", "Basic !!!"),), "", "10.1.9.9"),
        ((("Proxy-Authorization", "Basic aHVi"),), "", "10.1.9.9"),
    ],
)
def test_what_does_not_agree_opens_nothing(
    headers: Headers, certificate: str, peer: str
) -> None:
    assert who(headers, "B81001", certificate, peer) is None


def test_nobody_learns_which_practices_exist() -> None:
    unknown = identify(TENANTS, "Z99999", credentials((HUB_KEY,), "", ""))
    anothers = identify(TENANTS, "Y00001", credentials((HUB_KEY,), "", ""))
    no_key = identify(TENANTS, "B81001", credentials((), "", ""))

    assert unknown is anothers is no_key is REFUSED
    assert who((HUB_KEY,), "b81001") is None


def test_without_a_practice_in_the_path_the_credential_decides() -> None:
    assert who((HUB_KEY,), None) == ("B81001", "hub")
    assert who((("X-Gateway-Key", "other-key"),), None) == ("Y00001", "hub")


def test_a_network_of_two_practices_follows_the_path_and_else_the_narrower() -> None:
    assert who((), "B81001", peer="10.1.2.3") == ("B81001", "desk")
    assert who((), "Y00001", peer="10.1.2.3") == ("Y00001", "hub")
    assert who((), None, peer="10.1.2.3") == ("Y00001", "hub")


def test_a_client_without_a_key_is_not_named_by_an_empty_one() -> None:
    assert identify(TENANTS, "B81001", Credentials(keys=("",))) is REFUSED


def test_no_credential_shows() -> None:
    shown = repr(credentials((HUB_KEY, basic("B81001", "hub-key")), "", "")) + repr(HUB)

    assert "hub-key" not in shown
    assert sha("hub-key") not in shown
