"""The verbs beside ``run``: check, demo, status, keys, anchor, drill, maintenance.

Only here do we print.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 a promise broken (demo, drill).
"""

import argparse
import http.client
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

from gateway import config
from gateway.config.times import to_wall
from gateway.core.instant import Wall
from gateway.core.london import local
from gateway.core.maintenance import Question, Refusal, Window, asks, phase, refusal
from gateway.errors import ConfigMistakes, GatewayError

DONE: Final = 0
FAILED: Final = 1
BAD_USAGE: Final = 2
BROKEN: Final = 3

STATUS_BYTES_MAX: Final = 4 << 20
STATUS_WAIT_S: Final = 5.0

ABOUT: Final = """Keeps a GP practice working when its network or the national systems fail.

A client asks  http(s)://DEVICE:PORT/{ods}/{upstream}/{rest}  as it would ask the clinical system;
the gateway carries the request over the best link, rescues what a dying link would have lost, and
answers from an encrypted copy, marked with its age, when no way is left."""

ANCHOR: Final = """Answer the signed echoes by which gateways tell a living link from a dead one.

Run three, in different networks, one of them inside HSCN: an anchor that dies must not look like
a dead link. Whoever has not the secret gets no answer at all, nothing is answered with more bytes
than came, and no address is kept. Stops on TERM and then prints what it counted.

  practice-gateway keys anchor > anchor.secret; chmod 600 anchor.secret
  practice-gateway anchor --listen 0.0.0.0:4477 --secret anchor.secret

Each device needs the same file, and a probe of kind "echo" on each link (config/practice.toml)."""

DRILL: Final = """Move the practice's traffic to its backup for a quiet minute, and back again.

The running gateway does it, as it would before announced work: the main link takes no new work,
what runs there ends by itself, and afterwards the link proves itself as after any fault before it
takes its traffic back. It refuses where the backup is not up, has not lately shown to reach every
upstream, or has little left of its plan; and it goes back at once if the backup fails.

  practice-gateway drill --config /etc/practice-gateway/practice.toml

The report is kept, signed, under state_dir/drill. Exit 0: nobody noticed. 3: a promise was broken.
1: it was refused, or had to end early."""

MAINTENANCE: Final = """Announced work on links: what holds, and what a supplier told you by phone.

A link with a window is left before it begins, carries nothing meanwhile, and is used again when a
readiness run has passed on it afterwards. Windows come from the configuration, from calendars and
from here; what is written here holds at once, survives restarts, and works while the gateway is
down. Times are Europe/London wall time ("2026-11-26T02:00") or carry their offset ("...02:00Z").

  practice-gateway maintenance list --config FILE
  practice-gateway maintenance add --config FILE --link fibre --start 2026-11-26T02:00 \\
      --end 2026-11-26T04:00 --reason "CHG0012345, new switch"
  practice-gateway maintenance cancel --config FILE CHG0012345

Refused: a window that would take the last path. Asked twice: one in surgery hours, or longer than
the other link's data allowance lasts. Where nobody can be asked (no terminal) give --yes.

Exit 0: done. 1: refused. 2: the question was not answered, or a time is none."""

QUESTIONS: Final[dict[Question, str]] = {
    "surgery_hours": "It falls into surgery hours: the practice works over the backup meanwhile.",
    "beyond_quota": "It lasts longer than the data allowance of the other link does.",
}
REFUSALS: Final[dict[Refusal, str]] = {
    "last_path": "it would take the last path: at its beginning no link would take new work; "
                 "see: practice-gateway maintenance list",
    "unknown_link": "no link has this id",
    "too_many": "there are too many windows; cancel some first",
    "bad_times": "it must end after it begins, and within a week",
}

FIRST_STEPS: Final = """first steps:
  practice-gateway demo                       watch a practice keep working while its links die
  practice-gateway keys client                an API key for a client, and the hash for the config
  practice-gateway check --config FILE        every mistake at once, with file, key, value and rule
  practice-gateway keys init --config FILE    make the keys that seal the copies
  practice-gateway run --config FILE          run (systemd unit: config/systemd/)
  practice-gateway anchor --listen ADDR:PORT --secret FILE     answer echoes, on another machine

  practice-gateway drill --config FILE        really fail over for a quiet minute
  practice-gateway maintenance list --config FILE     announced work on the links

exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 a promise broken (demo, drill)"""


def parser() -> argparse.ArgumentParser:
    """Return the whole command line; ``verb`` and for keys ``what`` say what was asked."""
    top = argparse.ArgumentParser(
        prog="practice-gateway", description=ABOUT, epilog=FIRST_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"practice-gateway {version()}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    _config(verbs.add_parser("run", help="run the gateway", description=(
        "Run the gateway until TERM, which drains: /readyz says 503 first, requests in flight get "
        "gateway.drain_s seconds, then everything stops in reverse order.")))
    check = verbs.add_parser("check", help="name every mistake of a configuration", description=(
        "Read a configuration as run would, and name every mistake at once as "
        "`file: key = value: rule`. Exit 2 if there is one. Nothing is started or written."))
    _config(check, required=False)
    check.add_argument("--schema", action="store_true", help="print the JSON Schema and stop")
    check.add_argument("--json", action="store_true", help="mistakes and warnings as JSON")
    demo = verbs.add_parser("demo", help="a whole practice on this machine", description=(
        "Start gateway, two simulated links, a simulated clinical system and a broker, and print "
        "what to try. With --story, play one incident without a terminal; exit 3 if a promise "
        "breaks."))
    demo.add_argument("--story", metavar="NAME", help="play an incident: kent, brownout, ...")
    demo.add_argument("--json", action="store_true", help="print one JSON object at the end")
    status = verbs.add_parser("status", help="what a running gateway sees", description=(
        "Ask the admin port of a running gateway: links with their verdicts, modes, store, "
        "outbox."))
    _config(status, required=False)
    status.add_argument("--admin", metavar="HOST:PORT", help="instead of --config")
    status.add_argument("--json", action="store_true", help="all of it, as JSON")
    keys = verbs.add_parser("keys", help="make keys").add_subparsers(
        dest="what", metavar="WHAT", required=True)
    _config(keys.add_parser("init", help="make the keys that seal the copies", description=(
        "Make the device key and each tenant's key under state_dir/keys. Keys that exist are "
        "kept. Where a store stands without its keys this refuses: restore the keys, or delete "
        "the store by hand.")))
    client = keys.add_parser("client", help="make an API key for a client", description=(
        "Print a new API key once, and the hash that goes into the configuration. The key itself "
        "is stored nowhere: give it to the client, who sends it in X-Gateway-Key."))
    client.add_argument("--json", action="store_true", help="as JSON")
    keys.add_parser("anchor", help="make the secret that links share with anchors", description=(
        "Print a new secret once. Put it into a file (chmod 600) on each anchor and each device; "
        "probes of kind echo name that file. To change it, give anchors both files for a while."))
    _drill(verbs.add_parser("drill", help="really fail over for a quiet minute", description=DRILL,
                            formatter_class=argparse.RawDescriptionHelpFormatter))
    _maintenance(verbs.add_parser("maintenance", help="announced work on the links"))
    _anchor(verbs.add_parser("anchor", help="answer the echoes of gateways", description=ANCHOR,
                             formatter_class=argparse.RawDescriptionHelpFormatter))
    return top


def _drill(verb: argparse.ArgumentParser) -> None:
    _config(verb)
    verb.add_argument("--seconds", metavar="N", type=float, default=60.0,
                      help="how long traffic stays on the backup (60)")
    verb.add_argument("--wait", metavar="N", type=float, default=300.0,
                      help="how long to wait for a quiet moment (300)")
    verb.add_argument("--now", action="store_true", help="wait for no quiet moment")
    verb.add_argument("--json", action="store_true", help="the signed report as JSON")


def _maintenance(verb: argparse.ArgumentParser) -> None:
    verb.description, verb.formatter_class = MAINTENANCE, argparse.RawDescriptionHelpFormatter
    whats = verb.add_subparsers(dest="what", metavar="WHAT", required=True)
    shown = whats.add_parser("list", help="every window that holds, and what was refused")
    add = whats.add_parser("add", help="announce work on a link")
    cancel = whats.add_parser("cancel", help="a window does not hold, wherever it came from")
    for each in (shown, add, cancel):
        _config(each)
        each.add_argument("--json", action="store_true", help="as JSON")
    add.add_argument("--link", metavar="ID", required=True, help="the link that it concerns")
    add.add_argument("--start", metavar="TIME", required=True, help='such as "2026-11-26T02:00"')
    add.add_argument("--end", metavar="TIME", required=True, help="the same")
    add.add_argument("--id", metavar="ID", default="", help="the supplier's number; else LINK-TIME")
    add.add_argument("--drain", metavar="SECONDS", type=float, default=300.0,
                     help="how long before it the link takes no new work (300)")
    add.add_argument("--reason", metavar="WORDS", default="", help="for people; never sent")
    add.add_argument("--yes", action="store_true", help="yes to what would be asked")
    cancel.add_argument("id", metavar="ID", help="as maintenance list shows it")


def _anchor(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--listen", metavar="ADDR:PORT", required=True, type=_place,
                      help="where echoes come in by UDP, such as 0.0.0.0:4477 or [::]:4477")
    verb.add_argument("--secret", metavar="FILE", required=True, type=Path, action="append",
                      help="what gateways share with us (keys anchor); twice while it changes")
    verb.add_argument("--tls-port", metavar="N", type=int, default=-1,
                      help="the same over TLS, for networks that filter datagrams")
    verb.add_argument("--certificate", metavar="FILE", type=Path, help="PEM chain for --tls-port")
    verb.add_argument("--key", metavar="FILE", type=Path, help="its private key")
    verb.add_argument("--http-port", metavar="N", type=int, default=-1,
                      help="a fixed page for probes of kind http")
    verb.add_argument("--json", action="store_true", help="ports and counters as JSON")


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError("wants ADDR:PORT, such as 0.0.0.0:4477 or [::]:4477")
    return host.strip("[]"), int(port)


def _config(verb: argparse.ArgumentParser, *, required: bool = True) -> None:
    verb.add_argument("--config", metavar="FILE", type=Path, required=required,
                      help="the configuration (config/practice.toml shows every key)")


def version() -> str:
    """Return our version, also where we run from a tree that was never installed."""
    try:
        return metadata.version("practice-gateway")
    except metadata.PackageNotFoundError:
        return "0+tree"


def act(asked: argparse.Namespace) -> int:
    """Do what ``asked`` says, ``run`` excepted; return the exit code."""
    verbs = {"check": check, "demo": demo, "status": status, "keys": keys, "anchor": anchor,
             "drill": drill, "maintenance": maintenance}
    try:
        return verbs[asked.verb](asked)
    except ConfigMistakes as mistakes:
        print(mistakes, file=sys.stderr)
        return BAD_USAGE
    except GatewayError as error:
        print(f"practice-gateway: {error}", file=sys.stderr)
        return FAILED


def check(asked: argparse.Namespace) -> int:
    """Name every mistake, or print the schema."""
    if asked.schema:
        print(json.dumps(config.schema(), indent=2))
        return DONE
    if asked.config is None:
        print("practice-gateway check: give --config FILE, or --schema", file=sys.stderr)
        return BAD_USAGE
    mistakes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    try:
        found = config.load(asked.config)
        warnings = found.warnings
    except ConfigMistakes as error:
        mistakes = error.mistakes
    if asked.json:
        print(json.dumps({"mistakes": mistakes, "warnings": warnings}, indent=2))
    else:
        for line in mistakes:
            print(line, file=sys.stderr)
        for line in warnings:
            print(f"{asked.config}: warning: {line}", file=sys.stderr)
        if not mistakes:
            print(_summary(found))
    return BAD_USAGE if mistakes else DONE


def _summary(found: config.Config) -> str:
    links = ", ".join(link.id for link in sorted(found.links, key=lambda link: link.priority))
    return (f"{found.path}: good. {len(found.tenants)} tenant(s), {len(found.upstreams)} "
            f"upstream(s), links in order: {links}.")


def demo(asked: argparse.Namespace) -> int:
    """Play the demo practice; its exit code is ours."""
    from chaos.demo import main  # only here: the demo's world is no part of the daemon
    words = ["--story", asked.story] if asked.story else []
    return int(main([*words, "--json"] if asked.json else words))


def keys(asked: argparse.Namespace) -> int:
    """``keys init``, ``keys client`` and ``keys anchor``."""
    from gateway.edge import vault  # only here: check and status need no cryptography
    if asked.what == "anchor":
        print(vault.new_shared_secret())
        return DONE
    if asked.what == "client":
        key, digest = vault.new_api_key()
        if asked.json:
            print(json.dumps({"key": key, "key_sha256": digest}))
        else:
            print(f"API key, shown this once:  {key}")
            print(f'for the configuration:     key_sha256 = "{digest}"')
        return DONE
    found = config.load(asked.config)
    elsewhere = Path(found.device_key) if found.device_key else None
    made = vault.Vault.init(found.state_dir, [tenant.ods for tenant in found.tenants], elsewhere)
    for name in made:
        print(f"made: {name}")
    print(f"keys in {found.state_dir / 'keys'}: {'complete' if made else 'were complete'}. Keep a "
          "copy where no thief of this device finds it.")
    return DONE


def anchor(asked: argparse.Namespace) -> int:
    """Answer echoes until TERM."""
    from gateway.edge import anchor as service  # only here: no other verb answers echoes
    if (asked.tls_port >= 0) != bool(asked.certificate and asked.key):
        print("practice-gateway anchor: --tls-port, --certificate and --key go together",
              file=sys.stderr)
        return BAD_USAGE
    tls = service.server_tls(asked.certificate, asked.key) if asked.certificate else None
    host, port = asked.listen

    def started(ports: str) -> None:
        print(ports if asked.json else f"listening {ports}", flush=True)

    counted = service.serve(host, port, service.secrets_in(asked.secret), asked.tls_port, tls,
                            asked.http_port, started)
    print(json.dumps(counted) if asked.json else
          "stopped: " + ", ".join(f"{name} {count}" for name, count in counted.items()))
    return DONE


def status(asked: argparse.Namespace) -> int:
    """Show what a running gateway says of itself."""
    place = asked.admin
    if place is None and asked.config is None:
        print("practice-gateway status: give --config FILE or --admin HOST:PORT", file=sys.stderr)
        return BAD_USAGE
    if place is not None and not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s]+)?:[0-9]{1,5}", place):
        print("practice-gateway status: --admin wants HOST:PORT, such as 127.0.0.1:9464",
              file=sys.stderr)
        return BAD_USAGE
    if place is None:
        admin = config.load(asked.config, look=False).admin
        place = f"{admin.address}:{admin.port}"
    try:
        told = ask(place, "/status")
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"practice-gateway status: {place}: {error}", file=sys.stderr)
        return FAILED
    print(json.dumps(told, indent=2) if asked.json else table(told))
    return DONE


def drill(asked: argparse.Namespace) -> int:
    """Order a drill, follow it, and tell what it said."""
    from gateway import build  # only here: no other verb needs all of it
    found = config.load(asked.config, look=False)
    place = f"{found.admin.address}:{found.admin.port}"
    try:
        ask(place, "/status")
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"practice-gateway drill: no gateway runs at {place}: {error}", file=sys.stderr)
        return FAILED
    report = build.drill(found.state_dir, asked.seconds, 0.0 if asked.now else asked.wait,
                         lambda told: print(_drilling(told), file=sys.stderr, flush=True))
    if report is None:
        print("practice-gateway drill: the gateway did not end it in time; see status",
              file=sys.stderr)
        return FAILED
    print(json.dumps(report, indent=2) if asked.json else drilled(report))
    if report["good"]:
        return DONE
    broken = not all(report["promises"].values())
    return BROKEN if broken else FAILED


def maintenance(asked: argparse.Namespace) -> int:
    """List, add or cancel windows by the files that the daemon reads."""
    found = config.load(asked.config, look=False)
    verbs = {"list": _listed, "add": _added, "cancel": _cancelled}
    return verbs[asked.what](asked, found)


def _listed(asked: argparse.Namespace, found: config.Config) -> int:
    from gateway import build  # only here: no other verb needs all of it
    wall = build.wall_now()
    plan = build.announced(found, wall)
    rows = [{**_told(each), "phase": phase(each, wall), "reason": each.reason}
            for each in plan.windows]
    refused = [{**_told(each.window), "why": each.why} for each in plan.refused]
    if asked.json:
        print(json.dumps({"windows": rows, "refused": refused}, indent=2))
        return DONE
    print("\n".join(_columns(rows)) if rows else "no work is announced")
    for each, row in zip(plan.refused, refused, strict=True):
        print(f"refused: {row['id']} on {row['link']} from {row['start']}: {REFUSALS[each.why]}")
    return DONE


def _told(window: Window) -> dict[str, str]:
    return {"id": window.id, "link": window.link, "start": _london(window.start),
            "end": _london(window.end), "source": window.source}


def _london(wall: float) -> str:
    """Local time with its offset: in October an hour occurs twice."""
    shown = local(Wall(wall))
    ahead = round((shown - datetime.fromtimestamp(wall, UTC).replace(tzinfo=None)).seconds / 3600)
    return f"{shown:%Y-%m-%dT%H:%M}+0{ahead}:00"


def _added(asked: argparse.Namespace, found: config.Config) -> int:
    from gateway import build
    times = []
    sides: tuple[Literal["start", "end"], ...] = ("start", "end")
    for which in sides:
        try:
            times.append(to_wall(getattr(asked, which), which))
        except ValueError as error:
            print(f"practice-gateway maintenance: --{which}: {error}", file=sys.stderr)
            return BAD_USAGE
    if not 0 <= asked.drain <= 86400:
        print("practice-gateway maintenance: --drain: 0 to 86400 seconds", file=sys.stderr)
        return BAD_USAGE
    start, end = times
    name = asked.id or f"{asked.link}-{datetime.fromtimestamp(start, UTC):%Y%m%dT%H%M}Z"
    window = Window(name, asked.link, start, end, asked.drain, asked.reason[:200], "added", "",
                    f"{asked.start}/{asked.end}"[:200])
    wall = build.wall_now()
    plan = build.announced(found, wall)
    why = refusal(window, plan.windows, tuple(link.id for link in found.links))
    if why is not None or end <= wall:
        words = "it is over already" if why is None else REFUSALS[why]
        print(f"practice-gateway maintenance: {name} is refused: {words}", file=sys.stderr)
        return FAILED
    questions = asks(window, found.failback.surgery_from_h, found.failback.surgery_until_h,
                     _cover_s(found, window.link))
    if questions and not asked.yes and not _confirmed(window, questions):
        return BAD_USAGE
    build.add_window(found.state_dir, window)
    print(json.dumps(_told(window)) if asked.json else
          f"{name}: {window.link} is left from {_london(start - window.drain_s)} and used again "
          f"after {_london(end)}, once it has proved itself")
    return DONE


def _cover_s(found: config.Config, link: str) -> float | None:
    """How long the allowance of the best other link lasts, as a running gateway knows it."""
    try:
        told = ask(f"{found.admin.address}:{found.admin.port}", "/status")
        days = {plan["link"]: plan["days_left"] for plan in told["plans"]}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    others = [days.get(each.id) for each in found.links if each.id != link]
    known = [each for each in others if each is not None]
    return max(known) * 86_400.0 if known and len(known) == len(others) else None


def _confirmed(window: Window, questions: Sequence[Question]) -> bool:
    """Ask a person, twice: whether, and then for the link's very name."""
    for each in questions:
        print(QUESTIONS[each], file=sys.stderr)
    if not sys.stdin.isatty():
        print(f"practice-gateway maintenance: {window.id} was not added: announce it all the same? "
              "Nobody can be asked here; --yes says so", file=sys.stderr)
        return False
    print("Announce it all the same? [yes/no] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() != "yes":
        print("not added", file=sys.stderr)
        return False
    print(f"To be sure: which link will be left ({window.link})? ", end="", file=sys.stderr,
          flush=True)
    if sys.stdin.readline().strip() != window.link:
        print("not added", file=sys.stderr)
        return False
    return True


def _cancelled(asked: argparse.Namespace, found: config.Config) -> int:
    from gateway import build
    plan = build.announced(found, build.wall_now())
    known = {each.id for each in plan.windows} | {each.window.id for each in plan.refused}
    if asked.id not in known:
        print(f"practice-gateway maintenance: no window has the id {asked.id[:64]!r}; see: "
              "practice-gateway maintenance list", file=sys.stderr)
        return FAILED
    build.cancel_window(found.state_dir, asked.id)
    print(json.dumps({"cancelled": asked.id}) if asked.json else
          f"{asked.id}: cancelled; the link is used again once it has proved itself")
    return DONE


def _drilling(report: dict[str, Any]) -> str:
    """One line on how a drill goes on."""
    words = {"waiting": "waiting for a quiet moment", "refused": "refused",
             "moved": f"traffic is on {report['backup']}, after "
                      f"{report['moved_s'] or 0.0:.1f} s",
             "returning": f"going back to {report['link']}: it proves itself first",
             "done": "over", "aborted": "ended early"}
    return f"drill {report['id']}: {words[report['stage']]}"


def drilled(report: dict[str, Any]) -> str:
    """Return a drill's report as lines for a person."""
    from gateway.core.drill import WORDS
    lines = [f"{report['stage']}: {WORDS.get(report['why'], report['why'])}"]
    felt = report["felt"]
    if felt is not None:
        stayed, back = report["stayed_s"] or 0.0, report["back_s"]
        lines.append(f"from {report['link']} to {report['backup'] or '-'}: {stayed:.0f} s there, "
                     + (f"back after {back:.0f} s more" if back is not None else "not back yet"))
        lines.append(f"requests {felt['requests']}, failed {felt['failed']}, refused "
                     f"{felt['refused']}, from the copy {felt['copies']}, in doubt "
                     f"{felt['unknown']}; slowest {_bound(felt['slowest_s'], felt['requests'])}, "
                     f"99 of 100 {_bound(felt['p99_s'], felt['requests'])}")
        lines += [f"promise {number}: {'held' if held else 'BROKEN'}"
                  for number, held in report["promises"].items()]
    return "\n".join(lines)


def _bound(seconds: float | None, requests: int) -> str:
    if seconds is None:
        return "-" if not requests else "over 30 s"
    return f"within {seconds:g} s"


def ask(place: str, path: str) -> Any:
    """Return the JSON that the admin port at ``place`` gives for ``path``.

    Raises:
        OSError, http.client.HTTPException: nobody answers, or not as we do.
        ValueError: ``place`` is no host:port, or the answer is no JSON.
    """
    host, _, port = place.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]") or "127.0.0.1", int(port),
                                            timeout=STATUS_WAIT_S)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read(STATUS_BYTES_MAX)
    finally:
        connection.close()
    if reply.status != 200:
        raise http.client.HTTPException(f"answered {reply.status}")
    return json.loads(body)


def table(told: dict[str, Any]) -> str:
    """Return ``/status`` as lines for a person: lists of tables as columns, the rest as pairs."""
    lines = []
    for name, value in told.items():
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            lines += [f"{name}:", *_columns(value)]
        elif isinstance(value, dict):
            lines.append(f"{name}: " + ", ".join(f"{key} {_cell(each)}"
                                                 for key, each in value.items()))
        else:
            lines.append(f"{name}: {_cell(value)}")
    return "\n".join(lines)


def _columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(key for row in rows for key in row))
    cells = [names, *([_cell(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(names))]
    return ["  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
            .rstrip() for line in cells]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"))
    return str(value)
