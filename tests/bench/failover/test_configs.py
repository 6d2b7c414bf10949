"""The peers' configurations: each program accepts its own, and each says what it must."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.failover.configs import Ways, envoy, haproxy, nginx
from tests.bench.failover.peers import PEERS, said, version

WAYS = Ways(18080, ("10.77.100.11", 8080), ("10.77.100.12", 8080))


@pytest.mark.parametrize("ways", [WAYS, replace(WAYS, keep=True)])
@pytest.mark.parametrize("name", PEERS)
async def test_the_peer_accepts_its_configuration_and_tells_its_version(
        name: str, ways: Ways, tmp_path: Path) -> None:
    peer = PEERS[name]
    if peer.why_not():
        pytest.skip(f"PEER NOT TESTED: {peer.why_not()}")
    peer.configured(tmp_path, ways)
    code, words = await said(*peer.command(peer.check, tmp_path))
    assert code == 0, words
    assert "warning" not in words.lower()
    assert (await version(peer, tmp_path)).count(".") >= 2


@pytest.mark.parametrize("name", PEERS)
async def test_the_check_refuses_a_configuration_cut_short(name: str, tmp_path: Path) -> None:
    peer = PEERS[name]
    if peer.why_not():
        pytest.skip(f"PEER NOT TESTED: {peer.why_not()}")
    file = peer.configured(tmp_path, WAYS)
    file.write_text(file.read_text("utf-8")[:-40], "utf-8")
    code, _ = await said(*peer.command(peer.check, tmp_path))
    assert code != 0


@pytest.mark.parametrize("text", [nginx(WAYS, "/home"), haproxy(WAYS), envoy(WAYS)])
def test_every_configuration_knows_both_ways_and_listens_on_loopback_only(text: str) -> None:
    assert "10.77.100.11" in text
    assert "10.77.100.12" in text
    assert text.index("10.77.100.11") < text.index("10.77.100.12")  # the primary first
    assert "127.0.0.1" in text
    assert "0.0.0.0" not in text


def test_nginx_writes_nothing_outside_its_folder() -> None:
    text = nginx(WAYS, "/home")
    assert text.count("/home/") == 6  # pid, and five folders of bodies
    assert "access_log off" in text


def test_only_where_copies_are_compared_is_anything_kept() -> None:
    assert "proxy_cache" not in nginx(WAYS, "/home")
    kept = nginx(replace(WAYS, keep=True), "/home")
    assert "proxy_cache_path /home/cache" in kept
    assert "proxy_cache_use_stale error timeout" in kept
    assert "updating" not in kept  # no old answer while the upstream can be reached


def test_a_write_is_never_sent_twice_by_anyone() -> None:
    assert "non_idempotent" not in nginx(WAYS, "/home")
    assert "disable-l7-retry unless METH_GET" in haproxy(WAYS)
    manager = json.loads(envoy(WAYS))["static_resources"]["listeners"][0]["filter_chains"][0][
        "filters"][0]["typed_config"]
    reads, writes = (each["route"] for each in
                     manager["route_config"]["virtual_hosts"][0]["routes"])
    assert reads["hedge_policy"] == {"hedge_on_per_try_timeout": True}
    assert "hedge_policy" not in writes
    assert writes["retry_policy"]["retry_on"] == "connect-failure,refused-stream"


def test_a_peer_that_is_not_here_says_how_to_get_it(tmp_path: Path) -> None:
    gone = replace(PEERS["nginx"], find=lambda: None)
    assert gone.why_not() == "no nginx here (tools/setup.sh test brings it)"
    with pytest.raises(FileNotFoundError, match="no nginx here"):
        gone.command(gone.run, tmp_path)
