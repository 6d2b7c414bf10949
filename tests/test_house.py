"""The rules of the house as ordinary tests: who may know whom, and what no file may hold.

Law: a rule is a function from one ``File`` to its breaches, each ``path:line: what; instead``.
``tests/test_house_rules.py`` feeds every rule something that breaks it. ``EXCUSED`` and
``PENDING`` may only shrink.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent

# Room -> rooms it may import. A name covers all below it, the longest key rules, absent: refused.
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "errors": set(),
    "core": {"core", "errors"},
    "ports": {"core", "errors"},
    "config": {"config", "core", "errors"},
    "flow": {"flow", "ports", "core", "errors"},
    "edge": {"edge", "ports", "core", "errors"},
    "build": {"config", "flow", "edge", "ports", "core", "errors"},
    "cli": {"build", "config", "edge.vault", "edge.anchor", "core", "errors", "chaos"},  # verbs
    "__main__": {"cli", "build", "config", "errors"},
    "chaos": {"chaos"},  # through the front door, like everyone else
}

# Library -> who in gateway/ may import it. Third-party and not listed: refused. The standard
# library is free but for what is listed here.
KNOWN_BY: Final[dict[str, set[str]]] = {
    "aiohttp": {"edge.http_in", "edge.http_connection", "edge.http_answer",
                "edge.http_upload", "edge.http_out", "edge.http_wire",
                "edge.admin", "edge.dial", "edge.probe", "edge.resolver"},
    "multidict": {"edge.http_answer", "edge.http_out", "edge.http_wire"},
    "yarl": {"edge.http_out"},
    "icalendar": {"edge.calendar"},
    "recurring_ical_events": {"edge.calendar"},
    "aiomqtt": {"edge.mqtt"},
    "paho": {"edge.mqtt"},
    "prometheus_client": {"edge.admin"},
    "cryptography": {"edge.vault"},
    "zstandard": {"edge.vault"},
    "sqlite3": {"edge.sqlite"},
    "orjson": {"edge.http_in", "edge.http_out", "edge.record_store"},
    "pydantic": {"config"},
    "tomllib": {"config"},
    "tenacity": {"build", "flow.report"},
    "uvloop": {"__main__"},
    "time": {"edge.clock"},
    "random": {"build"},  # elsewhere Random may be named as a type, never called into being
    "socket": {"edge.anchor", "edge.dial", "edge.echo", "edge.gate", "edge.http_in",
               "edge.http_out", "edge.meter", "edge.mqtt", "edge.netlink", "edge.probe",
               "edge.resolver", "edge.service", "edge.tunnel"},
    "aiodns": {"edge.resolver"},
    "pycares": {"edge.resolver"},
    "pyroute2": {"edge.netlink"},
    "logging": {"edge", "flow", "build", "__main__"},
    "pickle": set(),
    "marshal": set(),
    "shelve": set(),
    "subprocess": set(),
}
NOT_IN_CORE: Final = frozenset({
    "asyncio", "logging", "os", "pathlib", "uuid", "secrets", "threading", "io", "tempfile",
    "zoneinfo", "concurrent", "signal", "sys"})

# Where what nobody foresaw may be caught (style: four fences): one request, one turn of a loop.
FENCES: Final[dict[str, int]] = {
    "gateway/edge/http_in.py": 1,
    "gateway/flow/report.py": 1,
    "gateway/flow/prune.py": 1,
    "gateway/flow/fence.py": 1,  # docs/decisions/0084
}
PRINTERS: Final = ("gateway/cli.py", "chaos/demo.py", "chaos/__main__.py", "tests/bench/",
                   "tests/sim/days.py")
NO_TEST_NEEDED: Final = frozenset({"gateway/ports.py", "gateway/errors.py", "gateway/__main__.py",
                                   "gateway/build.py", "gateway/core/instant.py"})
BAD_NAMES: Final = frozenset({"utils", "util", "common", "misc", "manager", "base", "helpers"})

# Modules whose test file is still to come. Only shrinks; empty when the order is done.
PENDING: Final[frozenset[str]] = frozenset()
# (path, breach without its line) that stand for now. Only shrinks.
EXCUSED: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True)
class File:
    """One source file: ``path`` relative to the root with slashes, its text and its tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """``core.link`` for ``gateway/core/link.py``; ``chaos`` for all of chaos; else ``""``."""
        if self.path.startswith("chaos/"):
            return "chaos"
        if not self.path.startswith("gateway/"):
            return ""
        return self.path.removeprefix("gateway/").removesuffix(".py").replace("/", ".")

    def at(self, node: ast.AST, words: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {words}"


def parse(path: str, text: str) -> File:
    """Return ``text`` as a File that claims to stand at ``path``."""
    return File(path, text, ast.parse(text, path))


Rule: TypeAlias = Callable[[File], list[str]]


def _imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str, tuple[str, ...]]]:
    """Every import: (node, module, names taken from it)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level
            yield node, prefix + (node.module or ""), tuple(alias.name for alias in node.names)


def _called(node: ast.AST) -> str:
    """The dotted name that ``node`` calls, ``""`` where it is no plain name."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def _covers(rooms: set[str], room: str) -> bool:
    return any(room == name or room.startswith(name + ".") for name in rooms)


def rooms(file: File) -> list[str]:
    """MAY_IMPORT: which of our rooms this one imports."""
    if not file.room or file.room in ("__init__", "core.__init__", "edge.__init__",
                                      "flow.__init__"):
        return []
    keys = [key for key in MAY_IMPORT if _covers({key}, file.room)]
    if not keys:
        return [f"{file.path}:1: this room is in no row of MAY_IMPORT; give it one"]
    allowed = MAY_IMPORT[max(keys, key=len)]
    breaches = []
    for node, module, names in _imports(file.tree):
        if module.startswith("."):
            breaches.append(file.at(node, "relative import; write it in full from gateway"))
            continue
        top = module.split(".")[0]
        if top not in ("gateway", "chaos"):
            continue
        if top == "chaos":
            targets = ["chaos"]
        elif module == "gateway":
            targets = [name for name in names if name != "__version__"]
        else:
            inner = module.removeprefix("gateway.")
            targets = [f"{inner}.{name}" for name in names] if "." not in inner and names and (
                inner in ("core", "edge", "flow")) else [inner]
        breaches += [file.at(node, f"{file.room} may not import {target}; it may know "
                             f"{', '.join(sorted(allowed)) or 'nobody'}")
                     for target in targets if not _covers(allowed, target)]
    return breaches


def libraries(file: File) -> list[str]:
    """KNOWN_BY: one library each, and third-party ones only where listed."""
    if not file.path.startswith("gateway/"):
        return []
    breaches = []
    for node, module, names in _imports(file.tree):
        top = module.split(".")[0]
        if top in ("gateway", "chaos", ""):
            continue
        if top == "random" and names == ("Random",):
            continue
        if top in KNOWN_BY:
            if not _covers(KNOWN_BY[top], file.room):
                breaches.append(file.at(node, f"{file.room} imports {top}; "
                                + _instead(top, KNOWN_BY[top])))
        elif top not in sys.stdlib_module_names:
            breaches.append(file.at(node, f"{top} is in no row of KNOWN_BY; a new library is a "
                                    "new row, with its decision file"))
    return breaches


def _instead(library: str, knowers: set[str]) -> str:
    words = {"time": "take now: Mono as the last argument, or ask the clock port",
             "random": "take rng: Random as an argument",
             "pickle": "write JSON", "subprocess": "the gateway starts no programs"}
    return words.get(library, f"go through {', '.join(sorted(knowers)) or 'something else'}")


def purity(file: File) -> list[str]:
    """Core never waits, reads no clock and touches no file."""
    if not file.path.startswith("gateway/core/"):
        return []
    breaches = []
    for line, module, _ in _imports(file.tree):
        if module.split(".")[0] in NOT_IN_CORE:
            breaches.append(file.at(line, f"core imports {module}; core decides and never waits: "
                                    "be told, or move it to edge"))
    for node in ast.walk(file.tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await):
            breaches.append(file.at(node, "core is never async; return a question to flow"))
        name = _called(node)
        if name in ("open", "print", "input"):
            breaches.append(file.at(node, f"core calls {name}; return the value instead"))
    return breaches


def clocks_and_dice(file: File) -> list[str]:
    """Time and chance are arguments: no datetime.now, no Random of one's own."""
    if not file.path.startswith("gateway/"):
        return []
    breaches = []
    for node in ast.walk(file.tree):
        name = _called(node)
        if re.search(r"\b(datetime|date)\.(now|today|utcnow)$", name):
            breaches.append(file.at(node, f"{name} reads the clock; take now: Wall, or ask the "
                                    "clock port"))
        if name in ("Random", "random.Random") and file.room != "build":
            breaches.append(file.at(node, "Random called into being; build passes the one Random"))
    return breaches


def waits(file: File) -> list[str]:
    """In flow waiting belongs to the clock port, deadlines to the edge."""
    if not file.path.startswith("gateway/flow/"):
        return []
    refused = {"asyncio.sleep", "asyncio.timeout", "asyncio.timeout_at", "asyncio.wait_for"}
    breaches = [file.at(node, f"{_called(node)} in flow; wait through clock.sleep")
                for node in ast.walk(file.tree) if _called(node) in refused]
    breaches += [file.at(line, "take asyncio whole, so that its waits can be seen")
                 for line, module, _ in _imports(file.tree)
                 if module == "asyncio" and isinstance(line, ast.ImportFrom)]
    return breaches


def task_groups(file: File) -> list[str]:
    """No task outside a TaskGroup: what is started is awaited, and its error is seen."""
    groups = _task_groups(file.tree)
    breaches = []
    for node in ast.walk(file.tree):
        name = _called(node)
        if name.endswith("ensure_future"):
            breaches.append(file.at(node, f"{name}; start tasks in a TaskGroup"))
        if name.endswith(".create_task") or name == "create_task":
            owner = name.removesuffix("create_task").rstrip(".").rsplit(".", 1)[-1]
            if owner not in groups:
                breaches.append(file.at(node, f"{name} outside a TaskGroup; use "
                                        "`async with asyncio.TaskGroup() as tasks`"))
    return breaches


def _task_groups(tree: ast.AST) -> set[str]:
    """Names that stand for a TaskGroup: bound by ``async with``, or annotated as one."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncWith):
            found |= {ast.unparse(item.optional_vars).rsplit(".", 1)[-1] for item in node.items
                      if item.optional_vars and "TaskGroup" in ast.unparse(item.context_expr)}
        elif isinstance(node, ast.arg) and node.annotation is not None:
            if "TaskGroup" in ast.unparse(node.annotation):
                found.add(node.arg)
        elif isinstance(node, ast.AnnAssign) and "TaskGroup" in ast.unparse(node.annotation):
            found.add(ast.unparse(node.target).rsplit(".", 1)[-1])
        elif isinstance(node, ast.Assign) and "TaskGroup()" in ast.unparse(node.value):
            found |= {ast.unparse(target).rsplit(".", 1)[-1] for target in node.targets}
    return found


def fences(file: File) -> list[str]:
    """``except Exception`` only at the fences; what ends in a bare ``raise`` catches nothing."""
    if file.path.startswith("tests/"):
        return []
    broad = [node for node in ast.walk(file.tree) if isinstance(node, ast.ExceptHandler)
             and (node.type is None
                  or re.search(r"\b(Base)?Exception\b", ast.unparse(node.type)))]
    caught = [node for node in broad if not _raises_again(node)]
    allowed = FENCES.get(file.path, 0)
    breaches = [file.at(node, "except Exception; name what you expect (the fences are listed in "
                        "FENCES)") for node in caught[allowed:]]
    lines = file.text.splitlines()
    breaches += [file.at(node, "a fence without its reason; write `# fence: why` on the line")
                 for node in caught[:allowed] if "# fence:" not in lines[node.lineno - 1]]
    return breaches


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def silence(file: File) -> list[str]:
    """No ``pass`` under an ``except``: suppress by name, or handle."""
    return [file.at(node, "pass under except; use contextlib.suppress of the named error")
            for node in ast.walk(file.tree) if isinstance(node, ast.ExceptHandler)
            and all(isinstance(line, ast.Pass) for line in node.body)]


def prints(file: File) -> list[str]:
    """No ``print`` outside cli and the programs that talk to a person."""
    if file.path.startswith(PRINTERS):
        return []
    return [file.at(node, "print; return the text, or tell it to the log")
            for node in ast.walk(file.tree) if _called(node) == "print"]


LOG_CALLS: Final = frozenset({"debug", "info", "warning", "error", "critical", "exception"})
SQL_CALLS: Final = frozenset({"execute", "executemany", "executescript"})


def made_up_strings(file: File) -> list[str]:
    """No f-string, ``%`` or ``.format`` in SQL or in a log call: arguments go beside them."""
    breaches = []
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        verb = node.func.attr
        if verb not in LOG_CALLS | SQL_CALLS or not node.args:
            continue
        first = node.args[0]
        joined = isinstance(first, ast.JoinedStr) or (
            isinstance(first, ast.BinOp) and isinstance(first.op, ast.Mod | ast.Add)
            and any(isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)
                    for leaf in ast.walk(first))) or _called(first).endswith(".format")
        if joined:
            instead = "bind parameters with ?" if verb in SQL_CALLS else "pass fields beside it"
            breaches.append(file.at(node, f"a string made up in {verb}(); {instead}"))
    return breaches


def dangers(file: File) -> list[str]:
    """No eval, no shell, no TLS check turned off."""
    breaches = []
    for node in ast.walk(file.tree):
        name = _called(node)
        if name in ("eval", "exec"):
            breaches.append(file.at(node, f"{name}; write the code out"))
        if isinstance(node, ast.keyword):
            value = ast.unparse(node.value)
            if (node.arg, value) in (("shell", "True"),):
                breaches.append(file.at(node.value, "shell=True; pass a list of arguments"))
            if (node.arg, value) in (("ssl", "False"), ("verify_ssl", "False"),
                                     ("check_hostname", "False")):
                breaches.append(file.at(node.value, f"{node.arg}=False; TLS is always verified"))
        if isinstance(node, ast.Attribute) and node.attr in ("CERT_NONE",
                                                            "_create_unverified_context"):
            breaches.append(file.at(node, f"{node.attr}; TLS is always verified"))
        if isinstance(node, ast.Assign) and ast.unparse(node.value) == "False" and any(
                ast.unparse(target).endswith(".check_hostname") for target in node.targets):
            breaches.append(file.at(node, "check_hostname off; TLS is always verified"))
    return breaches


NOTES: Final = r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"


def comments(file: File) -> list[str]:
    """No bare ``type: ignore``, no note of things to do."""
    breaches = []
    for number, line in enumerate(file.text.splitlines(), 1):
        if re.search(r"#\s*type:\s*ignore(?!\[)", line):
            breaches.append(f"{file.path}:{number}: bare type: ignore; name the code in brackets")
        if re.search("#.*" + NOTES, line):
            breaches.append(f"{file.path}:{number}: a note of things to do; do it or open an issue")
    return breaches


def globals_are_final(file: File) -> list[str]:
    """No global but ``Final`` (and type aliases): state belongs to an object that build made."""
    if not file.path.startswith(("gateway/", "chaos/")):
        return []
    breaches = [file.at(node, "global statement; keep the state in an object")
                for node in ast.walk(file.tree) if isinstance(node, ast.Global)]
    for node in file.tree.body:
        if isinstance(node, ast.AnnAssign):
            if not re.match(r"(Final|TypeAlias|typing\.Final)\b", ast.unparse(node.annotation)):
                breaches.append(file.at(node, "a global that is not Final; annotate it Final "
                                "(an alias: TypeAlias)"))
        elif isinstance(node, ast.Assign):
            maker = _called(node.value)
            if maker not in ("NewType", "TypeVar", "ParamSpec") and not all(
                    ast.unparse(target) in ("__all__", "__version__") for target in node.targets):
                breaches.append(file.at(node, "a global that is not Final; annotate it Final "
                                "(an alias: TypeAlias)"))
        elif isinstance(node, ast.AugAssign):
            breaches.append(file.at(node, "a global that changes; make it one Final value"))
    return breaches


def docstrings(file: File) -> list[str]:
    """Every module says what it is, and none has a name that says nothing."""
    breaches = []
    if not ast.get_docstring(file.tree):
        breaches.append(f"{file.path}:1: no docstring; say what this module is")
    if Path(file.path).stem in BAD_NAMES:
        breaches.append(f"{file.path}:1: a name that says nothing; which idea lives here?")
    return breaches


def retries(file: File) -> list[str]:
    """tenacity sleeps by our clock and waits by our dice."""
    if not file.path.startswith("gateway/"):
        return []
    breaches = []
    for node, module, names in _imports(file.tree):
        bad = [name for name in names if name == "stop_after_delay" or name.startswith(
            ("wait_random", "wait_exponential_jitter"))]
        if module.split(".")[0] == "tenacity" and bad:
            breaches.append(file.at(node, f"{', '.join(bad)} reads clock or dice for itself; use "
                                    "stop_after_attempt or stop_never, and waits of core.backoff"))
    for call in ast.walk(file.tree):
        if isinstance(call, ast.Call) and _called(call).split(".")[-1] in (
                "AsyncRetrying", "Retrying", "retry"):
            given = {keyword.arg for keyword in call.keywords}
            missing = {"sleep", "wait", "stop", "reraise"} - given
            if missing and "tenacity" in file.text:
                breaches.append(file.at(call, "a retry without "
                                        f"{', '.join(sorted(missing))}; see style, section 4"))
    return breaches


RULES: Final[tuple[Rule, ...]] = (
    rooms, libraries, purity, clocks_and_dice, waits, task_groups, fences, silence, prints,
    made_up_strings, dangers, comments, globals_are_final, docstrings, retries)

# Tests may do what product code may not, but for these.
TEST_RULES: Final[tuple[Rule, ...]] = (silence, dangers, comments, docstrings)


def sources(*tops: str) -> list[str]:
    """Every Python file under ``tops``, relative to the root."""
    found = [path.relative_to(ROOT).as_posix() for top in tops
             for path in sorted((ROOT / top).rglob("*.py"))]
    return [path for path in found if "node_modules" not in path]


@pytest.mark.parametrize("path", sources("gateway", "chaos"))
def test_the_rules_hold_in(path: str) -> None:
    file = parse(path, (ROOT / path).read_text())
    breaches = [breach for rule in RULES for breach in rule(file)]
    standing = [breach for breach in breaches if re.sub(r":\d+:", ":", breach) not in EXCUSED]
    assert not standing, "\n" + "\n".join(standing)


@pytest.mark.parametrize("path", sources("tests"))
def test_the_rules_for_tests_hold_in(path: str) -> None:
    file = parse(path, (ROOT / path).read_text())
    breaches = [breach for rule in TEST_RULES for breach in rule(file)]
    assert not breaches, "\n" + "\n".join(breaches)


def cycles(files: dict[str, File]) -> list[str]:
    """Import cycles among our modules; an import inside a function or TYPE_CHECKING counts not."""
    graph: dict[str, set[str]] = {}
    for path, file in files.items():
        name = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        graph[name] = set()
        for _, module, names in _imports(ast.Module(_top_level(file.tree.body), [])):
            graph[name] |= {module} | {f"{module}.{each}" for each in names}
    for name in graph:
        graph[name] &= set(graph) - {name}
    found: list[str] = []
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            found.append(" -> ".join((*trail[trail.index(name):], name)))
            return
        if name in done:
            return
        for after in sorted(graph[name]):
            visit(after, (*trail, name))
        done.add(name)

    for name in sorted(graph):
        visit(name, ())
    return found


def _top_level(body: list[ast.stmt]) -> list[ast.stmt]:
    return [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]


def test_no_import_goes_in_a_circle() -> None:
    files = {path: parse(path, (ROOT / path).read_text()) for path in sources("gateway", "chaos")}
    assert not cycles(files)


def untested(modules: list[str], tests: list[str]) -> list[str]:
    """Modules ``x/y`` that have neither ``tests/x/test_y.py`` nor ``tests/x/test_y_*.py``."""
    missing = []
    for module in modules:
        room, _, name = module.rpartition("/")
        stem = f"tests/{room}/test_{name}" if room else f"tests/test_{name}"
        if not any(test == stem + ".py" or test.startswith(stem + "_") for test in tests):
            missing.append(module)
    return missing


def gateway_modules() -> list[str]:
    """``core/link`` and so on: those that need a test."""
    return [path.removeprefix("gateway/").removesuffix(".py") for path in sources("gateway")
            if not path.endswith("__init__.py") and path not in NO_TEST_NEEDED]


def test_every_module_has_its_test_file() -> None:
    missing = set(untested(gateway_modules(), sources("tests")))
    assert missing <= PENDING, f"no test file for {sorted(missing - PENDING)}"


def test_every_unit_test_has_its_module() -> None:
    modules = set(gateway_modules())
    orphans = []
    for room in ("core", "flow", "edge"):
        for path in sources(f"tests/{room}"):
            stem = Path(path).stem.removeprefix("test_")
            parts = stem.split("_")
            names = {f"{room}/" + "_".join(parts[:n]) for n in range(1, len(parts) + 1)}
            if Path(path).stem.startswith("test_") and not names & (modules | PENDING):
                orphans.append(path)
    assert not orphans, f"tests of no module: {orphans}"


# --- the tables beside the code ------------------------------------------------------------


def test_every_error_has_a_row_in_the_status_table() -> None:
    from gateway import errors
    every = {value for value in vars(errors).values()
             if isinstance(value, type) and issubclass(value, errors.GatewayError)}
    assert every == set(errors.STATUS)


def promise_gaps(text: str, tests: str) -> list[str]:
    """Promises 1 to 12 that are no function, or that no test feeds."""
    names = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    gaps = []
    for number in range(1, 13):
        mine = [name for name in names if re.fullmatch(rf"promise_0?{number}(_\w+)?", name)]
        if not mine:
            gaps.append(f"promise {number} is no function of chaos/promises.py")
        elif not any(name in tests for name in mine) and "PROMISES" not in tests:
            gaps.append(f"promise {number} is never seen to fail in tests/chaos/test_promises.py")
    return gaps


def test_every_promise_is_a_function_and_is_used() -> None:
    promises, tests = ROOT / "chaos/promises.py", ROOT / "tests/chaos/test_promises.py"
    assert not promise_gaps(promises.read_text(), tests.read_text())


# --- what no tracked file may hold ---------------------------------------------------------

# In pieces, so that this file does not hold them itself.
INDEXES: Final = re.compile("|".join((
    "pypi" + r"\.org", "python" + "hosted", "registry" + r"\.npm", "registry" + r"\.yarn",
    "proxy" + r"\.golang", "sum" + r"\.golang", r"repo1?" + r"\.maven", "deb" + r"\.debian",
    "files" + r"\.python", "index" + "-url", "extra-" + "index")))
WORKPLACE: Final = re.compile("|".join((
    r"(?<![\w.])/work" + "/", "/brief" + "/", "/far" + "m/", "before" + "-stop")))


def forbidden(path: str, text: str) -> list[str]:
    """Addresses of package indexes, and names of the place where this was written."""
    return [f"{path}:{number}: {words}; take it out"
            for number, line in enumerate(text.splitlines(), 1)
            for pattern, words in ((INDEXES, "the address of a package index"),
                                   (WORKPLACE, "a name of the workplace"))
            if pattern.search(line)]


def tracked() -> list[str]:
    """Every file git knows, or every text file where this is no clone (a source archive)."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True,
                            check=False)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_package_index_or_the_workplace() -> None:
    found = []
    for name in tracked():
        text = (ROOT / name).read_bytes().decode("utf-8", "replace")
        found += forbidden(name, text)
    assert not found, "\n" + "\n".join(found)


def unhashed(text: str) -> list[str]:
    """Requirements of a lock file without a sha256."""
    whole = re.sub(r"\\\n", " ", text)
    return [line.split()[0] for line in whole.splitlines()
            if line.strip() and not line.startswith("#") and "--hash=sha256:" not in line]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-test.lock"])
def test_every_line_of_a_lock_file_has_its_hash(name: str) -> None:
    assert not unhashed((ROOT / name).read_text())
