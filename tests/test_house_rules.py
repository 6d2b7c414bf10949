"""Every rule of the house is seen to fail: each is fed what breaks it, and something good."""

import pytest

from tests import test_house as house
from tests.test_house import Rule, cycles, parse, promise_gaps, unhashed, untested

BREAKS = [
    (house.rooms, "gateway/core/link.py", "from gateway.edge.clock import SystemClock",
     "core.link may not import edge.clock"),
    (house.rooms, "gateway/core/link.py", "from gateway import config", "may not import config"),
    (house.rooms, "gateway/core/link.py", "from . import verdict", "relative import"),
    (house.rooms, "gateway/flow/serve.py", "from gateway.edge import http_out", "edge.http_out"),
    (house.rooms, "gateway/edge/http_in.py", "from gateway.flow.serve import x", "flow.serve"),
    (house.rooms, "gateway/flow/serve.py", "from chaos import weather", "may not import chaos"),
    (house.rooms, "chaos/demo.py", "import gateway.build", "may not import build"),
    (house.rooms, "gateway/attic.py", "x = 1", "in no row of MAY_IMPORT"),
    (house.libraries, "gateway/core/link.py", "import time", "take now: Mono as the last argument"),
    (house.libraries, "gateway/flow/serve.py", "import aiohttp", "go through edge.admin"),
    (house.libraries, "gateway/edge/mqtt.py", "import requests", "in no row of KNOWN_BY"),
    (house.libraries, "gateway/flow/watch.py", "import random", "take rng: Random"),
    (house.libraries, "gateway/edge/vault.py", "import pickle", "write JSON"),
    (house.libraries, "gateway/core/pack.py", "import tomllib", "go through config"),
    (house.purity, "gateway/core/link.py", "import asyncio", "core decides and never waits"),
    (house.purity, "gateway/core/link.py", "import logging", "core imports logging"),
    (house.purity, "gateway/core/link.py", "from os import environ", "core imports os"),
    (house.purity, "gateway/core/link.py", "async def f():\n    await g()", "never async"),
    (house.purity, "gateway/core/link.py", "x = open('f')", "core calls open"),
    (house.clocks_and_dice, "gateway/core/a.py", "x = datetime.now()", "reads the clock"),
    (house.clocks_and_dice, "gateway/edge/a.py", "x = datetime.datetime.utcnow()", "reads the"),
    (house.clocks_and_dice, "gateway/core/backoff.py", "x = Random(1)", "called into being"),
    (house.waits, "gateway/flow/serve.py", "async def f():\n    await asyncio.sleep(1)",
     "wait through clock.sleep"),
    (house.waits, "gateway/flow/serve.py", "x = asyncio.timeout(1)", "asyncio.timeout in flow"),
    (house.waits, "gateway/flow/serve.py", "from asyncio import wait_for", "take asyncio whole"),
    (house.task_groups, "gateway/flow/a.py", "asyncio.create_task(x())", "outside a TaskGroup"),
    (house.task_groups, "gateway/edge/a.py", "self.loop.create_task(x())", "outside a TaskGroup"),
    (house.task_groups, "gateway/edge/a.py", "asyncio.ensure_future(x())", "in a TaskGroup"),
    (house.fences, "gateway/flow/serve.py", "try:\n    f()\nexcept Exception:\n    g()",
     "name what you expect"),
    (house.fences, "gateway/flow/serve.py", "try:\n    f()\nexcept:\n    g()", "name what you"),
    (house.fences, "gateway/edge/a.py", "try:\n    f()\nexcept (ValueError, BaseException):\n    g",
     "name what you expect"),
    (house.fences, "gateway/edge/http_in.py", "try:\n    f()\nexcept Exception:\n    g()",
     "a fence without its reason"),
    (house.silence, "gateway/edge/a.py", "try:\n    f()\nexcept OSError:\n    pass",
     "contextlib.suppress"),
    (house.prints, "gateway/flow/serve.py", "print('x')", "return the text"),
    (house.made_up_strings, "gateway/edge/a.py", "log.info(f'{x}')", "pass fields beside it"),
    (house.made_up_strings, "gateway/edge/a.py", "log.warning('%s' % x)", "a string made up"),
    (house.made_up_strings, "gateway/edge/a.py", "log.error('a' + x)", "a string made up"),
    (house.made_up_strings, "gateway/edge/a.py", "log.error('{}'.format(x))", "a string made up"),
    (house.made_up_strings, "gateway/edge/sqlite.py", "db.execute(f'SELECT {x}')", "bind"),
    (house.dangers, "gateway/edge/a.py", "eval('1')", "write the code out"),
    (house.dangers, "chaos/a.py", "run('x', shell=True)", "pass a list of arguments"),
    (house.dangers, "gateway/edge/a.py", "context.check_hostname = False", "always verified"),
    (house.dangers, "gateway/edge/a.py", "context.verify_mode = ssl.CERT_NONE", "always verified"),
    (house.dangers, "gateway/edge/a.py", "connector(ssl=False)", "TLS is always verified"),
    (house.comments, "gateway/edge/a.py", "x = 1  # type: " + "ignore", "name the code"),
    (house.comments, "gateway/edge/a.py", "x = 1  # TO" + "DO: later", "things to do"),
    (house.globals_are_final, "gateway/edge/a.py", "cache = {}", "not Final"),
    (house.globals_are_final, "gateway/edge/a.py", "cache: dict[str, str] = {}", "not Final"),
    (house.globals_are_final, "gateway/edge/a.py", "def f():\n    global x", "global statement"),
    (house.docstrings, "gateway/edge/a.py", "x = 1", "no docstring"),
    (house.docstrings, "gateway/edge/utils.py", '"""Words."""', "a name that says nothing"),
    (house.retries, "gateway/flow/report.py", "from tenacity import stop_after_delay",
     "reads clock or dice"),
    (house.retries, "gateway/flow/report.py", "import tenacity\nx = AsyncRetrying(wait=w)",
     "a retry without reraise, sleep, stop"),
]

GOOD = [
    (house.rooms, "gateway/flow/serve.py", "from gateway.core.route import Standing\n"
     "from gateway import ports"),
    (house.rooms, "chaos/demo.py", "from chaos.rig import relay"),
    (house.libraries, "gateway/edge/clock.py", "import time, asyncio, ctypes"),
    (house.libraries, "gateway/flow/watch.py", "from random import Random"),
    (house.task_groups, "gateway/flow/a.py", "async def f():\n"
     "    async with asyncio.TaskGroup() as tasks:\n        tasks.create_task(x())"),
    (house.task_groups, "gateway/flow/a.py", "def f(group: asyncio.TaskGroup):\n"
     "    group.create_task(x())"),
    (house.fences, "gateway/edge/a.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
    (house.fences, "gateway/edge/http_in.py",
     "try:\n    f()\nexcept Exception:  # fence: one request\n    g()"),
    (house.made_up_strings, "gateway/edge/a.py", "log.info('link %s', x)\n"
     "db.execute('SELECT ?', (x,))"),
    (house.comments, "gateway/edge/a.py", "x = 1  # type: " + "ignore[arg-type]"),
    (house.globals_are_final, "gateway/edge/a.py", "A: Final = 1\nB: TypeAlias = int\n"
     "C = NewType('C', int)"),
]


@pytest.mark.parametrize(("rule", "path", "text", "told"), BREAKS)
def test_a_breach_is_found_and_its_place_and_replacement_named(rule: Rule, path: str, text: str,
                                                               told: str) -> None:
    breaches = rule(parse(path, text))
    assert any(told in breach for breach in breaches), breaches
    assert all(breach.startswith(f"{path}:") for breach in breaches)


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_what_is_allowed_passes(rule: Rule, path: str, text: str) -> None:
    assert rule(parse(path, text)) == []


def test_every_rule_is_broken_here() -> None:
    assert {rule for rule, _, _, _ in BREAKS} == set(house.RULES)


def test_a_circle_of_imports_is_found() -> None:
    files = {"gateway/core/a.py": parse("gateway/core/a.py", "from gateway.core import b"),
             "gateway/core/b.py": parse("gateway/core/b.py", "import gateway.core.c"),
             "gateway/core/c.py": parse("gateway/core/c.py", "from gateway.core.a import x")}
    assert cycles(files) == ["gateway.core.a -> gateway.core.b -> gateway.core.c -> gateway.core.a"]


def test_a_module_without_test_file_is_found() -> None:
    tests = ["tests/core/test_link.py", "tests/core/test_route_order.py"]
    assert untested(["core/link", "core/route", "core/pack"], tests) == ["core/pack"]


def test_a_promise_that_is_no_function_or_is_never_broken_is_found() -> None:
    text = "\n".join(f"def promise_{n}(): ..." for n in range(1, 12))
    assert promise_gaps(text, "PROMISES") == ["promise 12 is no function of chaos/promises.py"]
    gaps = promise_gaps(text + "\ndef promise_12(): ...", "promise_1")
    assert len(gaps) == 11
    assert "promise 2 is never seen to fail" in gaps[0]


@pytest.mark.parametrize("line", ["see https://py" + "pi.org/simple", "--index" + "-url x",
                                  '"resolved": "https://registry' + '.npmjs.org/a"',
                                  "cd /wor" + "k/main"])
def test_an_index_address_or_the_workplace_is_found(line: str) -> None:
    assert house.forbidden("f.md", f"good\n{line}\n")[0].startswith("f.md:2: ")


def test_a_web_path_that_ends_like_the_workplace_is_none() -> None:
    assert house.forbidden("f.md", "https://example.org/homework/") == []


def test_a_lock_line_without_its_hash_is_found() -> None:
    text = "a==1 \\\n    --hash=sha256:00\nb==2\n"
    assert unhashed(text) == ["b==2"]
