"""The name server, asked by a real resolver and by nonsense."""

import asyncio
import socket

import aiodns
import pytest

from chaos.rig.dns import Names, reply


async def ask(names: Names, name: str) -> list[str]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: names, ("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    resolver = aiodns.DNSResolver(nameservers=[f"127.0.0.1:{port}"], timeout=1.0, tries=1)
    try:
        found = await resolver.getaddrinfo(name, family=socket.AF_INET)
        return [node.addr[0].decode() for node in found.nodes]
    finally:
        await resolver.close()
        transport.close()


async def test_a_known_name_has_its_address() -> None:
    names = Names({"clinical.test": "10.77.100.1"})
    assert await ask(names, "clinical.test") == ["10.77.100.1"]
    assert names.asked >= 1


async def test_a_liar_says_its_address_for_any_name() -> None:
    assert await ask(Names({"*": "10.77.100.66"}), "clinical.test") == ["10.77.100.66"]


async def test_a_name_that_is_not_known_does_not_exist() -> None:
    with pytest.raises(aiodns.error.DNSError):
        await ask(Names({"clinical.test": "10.77.100.1"}), "other.test")


@pytest.mark.parametrize("packet", [b"", b"\x00" * 12, b"\x12\x34\x81\x80" + b"\x00" * 20,
                                    b"\x12\x34\x01\x00" + b"\x00" * 8 + b"\x3fabc"])
def test_what_is_no_question_gets_no_answer(packet: bytes) -> None:
    assert reply(packet, {"*": "10.0.0.1"}) == b""
