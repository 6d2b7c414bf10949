"""The verbs beside ``run``: check, demo, status, keys, anchor, drill. Only here do we print.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 a promise broken (demo, drill).
"""

import argparse
import http.client
import json
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from gateway import config
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

FIRST_STEPS: Final = """first steps:
  practice-gateway demo                       watch a practice keep working while its links die
  practice-gateway keys client                an API key for a client, and the hash for the config
  practice-gateway check --config FILE        every mistake at once, with file, key, value and rule
  practice-gateway keys init --config FILE    make the keys that seal the copies
  practice-gateway run --config FILE          run (systemd unit: config/systemd/)
  practice-gateway anchor --listen ADDR:PORT --secret FILE     answer echoes, on another machine

  practice-gateway drill --config FILE        really fail over for a quiet minute

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
    demo.add_argument("--story", metavar="NAME", help="play an incident, such as kent")
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
             "drill": drill}
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
