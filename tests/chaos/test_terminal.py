"""The panel redraws on a real terminal, stays plain elsewhere, and keys come one at a time."""

import asyncio
import io
import os
import pty
import termios

from chaos.terminal import Keys, Panel, coloured


def test_without_a_terminal_it_is_plain_and_says_nothing_twice() -> None:
    out = io.StringIO()
    panel = Panel(out)
    panel.show(["links", "  fibre   DOWN"])
    panel.show(["links", "  fibre   UP"])
    assert out.getvalue() == "links\n  fibre   DOWN\n\n", "the second within ten seconds"
    assert "\x1b" not in out.getvalue()


def test_on_a_terminal_lines_replace_those_before() -> None:
    leader, follower = pty.openpty()
    with open(follower, "w") as out, open(leader, "rb", buffering=0) as screen:
        panel = Panel(out)
        panel.show(["links", "  fibre   DOWN"])
        panel.show(["links"])
        seen = ""
        while seen.count("\x1b[2K") < 4:
            seen += screen.read(4096).decode()
    assert "\x1b[2A" in seen
    assert seen.endswith("\x1b[2K\r\n"), "the line that is gone is cleared, too"


def test_colour_never_replaces_words() -> None:
    for line in ("links", "  fibre   DOWN", "  sim  UP  <- active", "  live 3  failed 0"):
        shown = coloured(line)
        assert line in shown
    assert coloured("  live 3  failed 0") == "  live 3  failed 0"
    assert coloured("  live 3  failed 2") != "  live 3  failed 2"


async def test_keys_come_one_at_a_time_and_the_terminal_is_put_back() -> None:
    leader, follower = pty.openpty()
    source = os.fdopen(follower)
    before = termios.tcgetattr(source)
    with Keys(source) as keys:
        os.write(leader, b"fs")
        async with asyncio.timeout(5):
            assert [await keys.next(), await keys.next()] == ["f", "s"]
    assert termios.tcgetattr(source)[3] == before[3]
    source.close()
    os.close(leader)


async def test_without_a_terminal_no_key_ever_comes() -> None:
    with Keys(io.StringIO("fsq")) as keys:
        try:
            async with asyncio.timeout(0.05):
                await keys.next()
        except TimeoutError:
            return
    raise AssertionError("a key came from nowhere")
