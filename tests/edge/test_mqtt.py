"""The MQTT door against a real mosquitto with TLS, client certificates and the example ACL."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import uvloop
from paho.mqtt import client as paho

from gateway.core.link import Link
from gateway.core.telemetry import Message, topic
from gateway.edge.mqtt import (
    NOWHERE,
    Session,
    Settings,
    _translated,
    assert_libraries_are_as_known,
    connected,
    link_dial,
    tls_context,
)
from tests.kit.broker import Mosquitto, free_port, mosquitto
from tests.kit.pki import issue, make_ca

GW = "B81001-a"
LOOPBACK = Link("fibre", 1)


async def itself(host: str) -> tuple[str, ...]:
    """A name service that takes addresses only."""
    return (host,)


DIAL = link_dial(LOOPBACK, itself)


def lost(gw: str = GW) -> Message:
    return Message(topic(gw, "presence"), b'{"st":"lost"}', 1, True)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    async with mosquitto(tmp_path) as running:
        yield running


@pytest.fixture
def settings(broker: Mosquitto) -> Callable[..., Settings]:
    return settings_for(broker)


def settings_for(broker: Mosquitto) -> Callable[..., Settings]:
    def make(gw: str = GW, **changes: Any) -> Settings:
        leaf = broker.leaf(gw)
        tls = tls_context(str(broker.ca.cert), str(leaf.cert), str(leaf.key))
        return Settings("127.0.0.1", broker.port, gw, tls, **changes)

    return make


async def first(session: Session) -> tuple[str, bytes, bool]:
    async with asyncio.timeout(10):
        async for message in session.received():
            return message
    raise AssertionError("nothing came")


async def test_what_we_publish_reaches_the_console_with_its_retain_and_quality(
        broker: Mosquitto, settings: Callable[..., Settings]) -> None:
    async with connected(settings(), DIAL, lost()) as session:
        await session.publish(topic(GW, "state"), b"{}", 1, True, None)
        await session.publish(topic(GW, "hb"), b"{}", 0, False, 30)

        async with broker.console("late") as console:
            await console.subscribe("gpgw/1/+/up/#", qos=1)
            message = await anext(console.messages)

    assert (message.topic.value, message.retain, message.qos) == (topic(GW, "state"), True, 1)


async def test_a_gateway_reads_back_its_own_presence_and_nobody_else_s(
        settings: Callable[..., Settings]) -> None:
    others = topic("B82002-a", "presence")
    async with (
        connected(settings("B82002-a"), DIAL, lost("B82002-a")) as other,
        connected(settings(), DIAL, lost(), (others, topic(GW, "presence"))) as session,
    ):
        await other.publish(others, b"theirs", 1, True, None)
        await session.publish(topic(GW, "presence"), b"ours", 1, True, None)

        assert (await first(session))[:2] == (topic(GW, "presence"), b"ours")


async def test_no_gateway_can_speak_for_another(
        broker: Mosquitto, settings: Callable[..., Settings]) -> None:
    async with connected(settings(), DIAL, lost()) as session:
        with contextlib.suppress(OSError):  # MQTT 5 answers "not authorised"; either way not said
            await session.publish(topic("B82002-a", "state"), b"forged", 1, True, None)
        await session.publish(topic(GW, "state"), b"own", 1, True, None)

        async with broker.console("watch") as console:
            await console.subscribe("gpgw/1/+/up/state", qos=1)
            message = await anext(console.messages)

    assert message.payload == b"own"


async def test_a_client_without_a_certificate_of_the_right_ca_is_not_let_in(
        broker: Mosquitto, settings: Callable[..., Settings], tmp_path: Path) -> None:
    stranger = issue(make_ca(tmp_path / "other"), GW, client=True)
    tls = tls_context(str(broker.ca.cert), str(stranger.cert), str(stranger.key))

    async with asyncio.timeout(3):  # told at once, not by our own patience of 10 s
        with pytest.raises(OSError):
            async with connected(Settings("127.0.0.1", broker.port, GW, tls), DIAL, lost()):
                raise AssertionError("it was let in")


async def test_a_broker_that_is_not_the_one_of_our_ca_is_refused(
        broker: Mosquitto, tmp_path: Path) -> None:
    leaf = broker.leaf(GW)
    other = make_ca(tmp_path / "other")
    tls = tls_context(str(other.cert), str(leaf.cert), str(leaf.key))

    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        async with connected(Settings("127.0.0.1", broker.port, GW, tls), DIAL, lost()):
            raise AssertionError("it was trusted")


async def test_the_same_identity_over_another_link_takes_the_session_over(
        settings: Callable[..., Settings]) -> None:
    async with (
        connected(settings(), DIAL, lost()) as old,
        connected(settings(), DIAL, lost()) as new,
    ):
        with pytest.raises(OSError):
            await first(old)
        await new.publish(topic(GW, "state"), b"{}", 1, True, None)


async def test_an_orderly_end_is_no_loss_and_a_broken_one_is(
        broker: Mosquitto, settings: Callable[..., Settings]) -> None:
    async with broker.console("watch") as console:
        await console.subscribe("gpgw/1/+/up/presence", qos=1)
        async with connected(settings(will_delay_s=0), DIAL, lost()) as session:
            await session.publish(topic(GW, "presence"), b"leaving", 1, True, None)
        with pytest.raises(ZeroDivisionError):
            async with connected(settings(will_delay_s=0), DIAL, lost()):
                raise ZeroDivisionError
        seen = [(await anext(console.messages)).payload for _ in range(2)]

    assert seen == [b"leaving", b'{"st":"lost"}']


@pytest.mark.parametrize("stage", ["dial", "handshake", "connack"])
async def test_a_broker_that_says_nothing_costs_no_more_than_our_patience(
        settings: Callable[..., Settings], stage: str) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(1)
        there = ("127.0.0.1", int(mute.getsockname()[1]))
        tls = settings().tls if stage == "handshake" else None
        patient = Settings(*there, GW, tls, connect_s=0.3)
        loop = asyncio.get_running_loop()

        async def never(host: str, port: int) -> socket.socket:
            await asyncio.Event().wait()
            raise AssertionError

        began = loop.time()
        with pytest.raises(OSError):
            async with connected(patient, never if stage == "dial" else DIAL, lost()):
                raise AssertionError("connected to nobody")

        assert loop.time() - began < 2.0


async def test_a_publish_that_a_frozen_broker_never_acknowledges_ends_as_an_error(
        broker: Mosquitto, settings: Callable[..., Settings]) -> None:
    async with connected(settings(ack_s=0.3), DIAL, lost()) as session:
        broker.freeze()
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionError):
                await session.publish(topic(GW, "evt"), b"{}", 1, False, None)
        broker.thaw()


async def test_paho_s_own_queue_holds_twenty_messages_and_no_more(
        broker: Mosquitto, settings: Callable[..., Settings]) -> None:
    async with connected(settings(ack_s=0.5), DIAL, lost()) as session:
        broker.freeze()
        ends = await asyncio.gather(
            *(session.publish(topic(GW, "evt"), b"{}", 1, False, None) for _ in range(60)),
            return_exceptions=True)
        broker.thaw()

    assert all(isinstance(end, OSError) for end in ends)
    assert sum("CodeError" in str(end) for end in ends) >= 60 - 2 * 20  # refused at once: full


async def test_paho_never_dials_by_itself(settings: Callable[..., Settings],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    def dialled(*about: object, **more: object) -> socket.socket:
        raise AssertionError(f"paho dialled {about}")

    monkeypatch.setattr(socket, "create_connection", dialled)
    async with connected(settings(), DIAL, lost()) as session:
        await session.publish(topic(GW, "hb"), b"{}", 0, False, 30)


async def test_an_upgrade_that_would_let_paho_dial_is_refused_at_the_start(
        settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    assert_libraries_are_as_known()

    def renamed(self: paho.Client) -> socket.socket:
        with socket.socket() as own:
            return own

    monkeypatch.setattr(paho.Client, "_create_socket", renamed)
    with pytest.raises((RuntimeError, OSError)):
        async with connected(settings(), DIAL, lost()):
            raise AssertionError("paho took a socket of its own")

    monkeypatch.delattr(paho.Client, "_create_socket_connection")
    with pytest.raises(RuntimeError, match="_create_socket_connection"):
        assert_libraries_are_as_known()


def test_the_host_that_paho_is_told_can_never_be_dialled() -> None:
    assert NOWHERE.endswith(".invalid")  # RFC 6761 section 6.4: no such name exists


async def test_the_socket_leaves_by_the_link_s_source_address(broker: Mosquitto) -> None:
    sock = await link_dial(Link("fibre", 1, source="127.0.0.9"), itself)("127.0.0.1", broker.port)
    with sock:
        assert sock.getsockname()[0] == "127.0.0.9"
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000


async def test_the_next_address_is_tried_and_a_name_without_one_is_an_error(
        broker: Mosquitto) -> None:
    async def two(host: str) -> tuple[str, ...]:
        return ("::1", "127.0.0.1")  # the broker listens on IPv4 only

    async def none(host: str) -> tuple[str, ...]:
        return ()

    with await link_dial(LOOPBACK, two)("broker.example", broker.port) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"
    with pytest.raises(OSError, match="no address on this link"):
        await link_dial(LOOPBACK, none)("broker.example", broker.port)
    with pytest.raises(ConnectionRefusedError):
        await DIAL("127.0.0.1", free_port())


async def test_what_comes_in_faster_than_it_is_read_is_bounded(
        broker: Mosquitto, settings: Callable[..., Settings]) -> None:
    asked = f"gpgw/1/{GW}/dn/ack"
    async with (
        connected(settings(incoming_max=8), DIAL, lost(), (asked,)) as session,
        broker.console("flood") as console,
    ):
        for n in range(40):
            await console.publish(asked, str(n).encode(), qos=1)
        await session.publish(topic(GW, "state"), b"{}", 1, True, None)  # all have arrived by now

        assert len(session._client.messages) == 8


async def test_an_error_tells_a_code_and_never_a_word_of_the_broker_s() -> None:
    with pytest.raises(ConnectionError) as told, _translated():
        raise aiomqtt.MqttError("patient 9990000018")

    assert "9990000018" not in str(told.value)


def test_the_door_is_the_same_on_uvloop_which_the_daemon_runs_on(tmp_path: Path) -> None:
    """The two loops differ where sockets are watched by number, closed, or dialled."""
    async def whole() -> None:
        async with mosquitto(tmp_path) as broker:
            make = settings_for(broker)
            await test_what_we_publish_reaches_the_console_with_its_retain_and_quality(broker, make)
            await test_the_same_identity_over_another_link_takes_the_session_over(make)
            await test_an_orderly_end_is_no_loss_and_a_broken_one_is(broker, make)
            await test_a_publish_that_a_frozen_broker_never_acknowledges_ends_as_an_error(
                broker, make)
            for stage in ("dial", "handshake", "connack"):
                await test_a_broker_that_says_nothing_costs_no_more_than_our_patience(make, stage)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole())
