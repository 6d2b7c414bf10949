"""The command line as a person meets it: words, exit codes, JSON."""

import io
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.__main__ import main
from tests.config.test_load import GOOD

ROOT = Path(__file__).resolve().parent.parent
TOLD: dict[str, Any] = {"gateway": {"name": "x", "uptime_s": 1.25},
                        "links": [{"id": "fibre", "state": "UP"}, {"id": "sim", "rtt_ms": 40.0}],
                        "switches": 3}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    file = tmp_path / "site.toml"
    file.write_text(GOOD)
    return file


@pytest.fixture
def admin() -> Iterator[str]:
    """A stand-in for a gateway's admin port; its address."""
    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/status" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(TOLD).encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_check_of_a_good_file_is_0_and_says_what_it_found(
        site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(site)]) == 0
    told = capsys.readouterr().out
    assert "good. 2 tenant(s), 1 upstream(s), links in order: fibre, sim." in told


def test_check_of_a_bad_file_is_2_and_names_each_mistake(
        site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.write_text(GOOD.replace("priority = 2", "priority = 0").replace("port = 0", "port = -1"))
    assert main(["check", "--config", str(site)]) == 2
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        f"{site}: listen.port = -1: must be at least 0",
        f"{site}: links[1].priority = 0: must be at least 1"]
    assert main(["check", "--config", str(site), "--json"]) == 2
    assert len(json.loads(capsys.readouterr().out)["mistakes"]) == 2


def test_run_of_a_bad_file_is_2_before_anything_starts(
        site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.write_text("")
    assert main(["run", "--config", str(site)]) == 2
    assert "gateway: is missing" in capsys.readouterr().err


def test_the_schema_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--schema"]) == 0
    assert "links" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.parametrize("words", [["check"], ["status"], []])
def test_bad_usage_is_2(words: list[str]) -> None:
    if words:
        assert main(words) == 2
        return
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2


def test_an_api_key_is_shown_once_with_the_hash_for_the_config(
        capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "client", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["keys", "client", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key"] != first["key"]
    assert len(first["key_sha256"]) == 64
    assert first["key"] not in first["key_sha256"]


def test_keys_init_makes_keys_once_and_refuses_beside_a_store_without_them(
        site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "init", "--config", str(site)]) == 0
    assert "made: device" in capsys.readouterr().out
    assert main(["keys", "init", "--config", str(site)]) == 0
    assert "were complete" in capsys.readouterr().out
    state = site.parent / "state"
    (state / "records").mkdir(exist_ok=True)
    (state / "records" / "B81001.db").write_bytes(b"x")
    (state / "keys" / "device.key").unlink()
    assert main(["keys", "init", "--config", str(site)]) == 1
    assert "missing" in capsys.readouterr().err


def test_status_is_a_table_or_json(admin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--admin", admin]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "gateway: name x, uptime_s 1.25", "links:", "  id     state  rtt_ms", "  fibre  UP",
        "  sim           40", "switches: 3"]
    assert main(["status", "--admin", admin, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == TOLD


def test_status_of_a_gateway_that_is_not_there_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
        assert main(["status", "--admin", place]) == 1
    assert place in capsys.readouterr().err


def test_help_teaches_every_verb() -> None:
    told = subprocess.run([sys.executable, "-m", "gateway", "--help"], cwd=ROOT,
                          capture_output=True, text=True, check=True).stdout
    for word in ("run", "check", "demo", "status", "keys", "first steps", "exit codes"):
        assert word in told


def test_the_version_is_told() -> None:
    told = subprocess.run([sys.executable, "-m", "gateway", "--version"], cwd=ROOT,
                          capture_output=True, text=True, check=True).stdout
    assert told == f"practice-gateway {cli.version()}\n"


def test_a_place_that_is_no_place_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--admin", "foo"]) == 2
    assert "HOST:PORT" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m gateway check --schema | head -1"],
        cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def announce(site: Path, *more: str, link: str = "fibre", start: str = "2036-11-26T02:00",
             end: str = "2036-11-26T04:00") -> int:
    return main(["maintenance", "add", "--config", str(site), "--link", link, "--start", start,
                 "--end", end, *more])


@pytest.fixture
def stated(site: Path) -> Path:
    (site.parent / "state").mkdir(mode=0o700)
    return site


def test_a_window_is_added_listed_and_cancelled(
        stated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert announce(stated, "--id", "CHG1", "--reason", "new switch") == 0
    assert "fibre is left from 2036-11-26T01:55+00:00" in capsys.readouterr().out
    assert main(["maintenance", "list", "--config", str(stated), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["windows"] == [{
        "id": "CHG1", "link": "fibre", "start": "2036-11-26T02:00+00:00",
        "end": "2036-11-26T04:00+00:00", "source": "added", "phase": "planned",
        "reason": "new switch"}]
    assert main(["maintenance", "cancel", "--config", str(stated), "CHG1"]) == 0
    capsys.readouterr()
    assert main(["maintenance", "list", "--config", str(stated)]) == 0
    assert "no work is announced" in capsys.readouterr().out
    assert main(["maintenance", "cancel", "--config", str(stated), "CHG1"]) == 1
    assert "no window has the id 'CHG1'" in capsys.readouterr().err


def test_a_window_that_takes_the_last_path_is_refused(
        stated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert announce(stated) == 0
    assert announce(stated, link="sim") == 1
    assert "it would take the last path" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "code", "words"), [
    ({"link": "dsl"}, 1, "no link has this id"),
    ({"start": "2036-11-26T05:00"}, 1, "it must end after it begins, and within a week"),
    ({"start": "soon"}, 2, "--start: must be a time such as"),
    ({"start": "2036-03-30T01:30"}, 2, "does not exist"),
    ({"start": "2020-01-02T02:00", "end": "2020-01-02T03:00"}, 1, "it is over already"),
])
def test_what_cannot_be_a_window_is_told(
        stated: Path, more: dict[str, str], code: int, words: str,
        capsys: pytest.CaptureFixture[str]) -> None:
    assert announce(stated, **more) == code
    assert words in capsys.readouterr().err


def test_surgery_hours_are_asked_twice_and_nobody_to_ask_is_no(
        stated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(*lines: str) -> int:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return bool(lines)

        monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))
        return announce(stated, start="2036-11-26T10:00", end="2036-11-26T11:00")

    assert typed() == 2
    assert "It falls into surgery hours" in (told := capsys.readouterr().err)
    assert "--yes" in told
    assert typed("no") == typed("yes", "sim") == typed("") == 2
    assert typed("yes", "fibre") == 0
    assert main(["maintenance", "cancel", "--config", str(stated), "fibre-20361126T1000Z"]) == 0
    assert announce(stated, "--yes", start="2036-11-26T10:00", end="2036-11-26T11:00") == 0
