"""A whole configuration read: mistakes all at once, secrets never shown, core types inside."""

import hashlib
import ssl
import subprocess
from pathlib import Path

import pytest

from gateway.config import Config, load
from gateway.errors import ConfigMistakes

GOOD = """
[gateway]
name = "B81001-a"
state_dir = "state"
[listen]
address = "127.0.0.1"
port = 0
[[links]]
id = "fibre"
priority = 1
source = "127.0.0.1"
probes = [
  { id = "broker", kind = "tcp", target = "127.0.0.1:1883" },
  { id = "echo", kind = "http", target = "127.0.0.1:7000", expect = "here" },
]
[[links]]
id = "sim"
priority = 2
source = "127.0.0.2"
metered = true
probes = [
  { id = "broker", kind = "tcp", target = "127.0.0.1:1884" },
  { id = "echo", kind = "tcp", target = "127.0.0.1:7001" },
]
[[tenants]]
ods = "B81001"
[[tenants.clients]]
id = "booking"
key_sha256 = "KEY1"
copies = "marked"
[[tenants]]
ods = "B82002"
[[tenants.clients]]
id = "desk"
key_sha256 = "KEY2"
[[upstreams]]
id = "gpc"
tenants = ["B81001", "B82002"]
base_url = "http://127.0.0.1:8080/gpc"
base_urls = { sim = "http://127.0.0.1:8081/gpc" }
pack = "gp-connect-stu3"
keep = "continuity"
permitted_by = "DPIA 2026-014"
""".replace("KEY1", "1" * 64).replace("KEY2", "2" * 64)


def read(tmp_path: Path, text: str, *, look: bool = True) -> Config:
    file = tmp_path / "site.toml"
    file.write_text(text)
    return load(file, {}, look=look)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    """What is wrong with ``text``, without the directory before ``site.toml``."""
    with pytest.raises(ConfigMistakes) as error:
        read(tmp_path, text)
    return [line.replace(str(tmp_path) + "/", "") for line in error.value.mistakes]


def without(*olds: str) -> str:
    text = GOOD
    for old in olds:
        assert old in text
        text = text.replace(old, "")
    return text


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def test_a_good_file_becomes_core_types_with_absolute_paths(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)

    assert [(link.id, link.priority, link.metered) for link in found.links] == [
        ("fibre", 1, False), ("sim", 2, True)]
    assert found.links[0].probes[1].expect == "here"
    assert [tenant.ods for tenant in found.tenants] == ["B81001", "B82002"]
    assert found.tenants[0].clients[0].copies == "marked"
    assert found.state_dir == tmp_path / "state"
    assert found.upstreams[0].url_over("sim") == "http://127.0.0.1:8081/gpc"
    assert found.upstreams[0].url_over("fibre") == "http://127.0.0.1:8080/gpc"
    assert found.packs["gp-connect-stu3"].interaction_header == "Ssp-InteractionID"


def test_every_mistake_comes_in_one_pass(tmp_path: Path) -> None:
    text = (GOOD.replace('name = "B81001-a"', 'nmae = "x"').replace("priority = 2", "priority = 0")
            .replace('keep = "continuity"', 'keep = "maybe"')
            .replace('permitted_by = "DPIA 2026-014"', "forwarded = 1")
            .replace('tenants = ["B81001", "B82002"]', 'tenants = ["B81001", "X99999"]'))

    assert sorted(mistakes(tmp_path, text + "[judgement]\nprobe_every_s = 0\n")) == [
        "site.toml: gateway.name: is missing",
        "site.toml: gateway.nmae: unknown key; did you mean name?",
        "site.toml: judgement.probe_every_s = 0: must be at least 0.05",
        "site.toml: links[1].priority = 0: must be at least 1",
        "site.toml: upstreams[0].forwarded = 1: must be true or false",
        "site.toml: upstreams[0].keep = \"maybe\": must be one of off, continuity or http",
        "site.toml: upstreams[0].tenants: no tenant has the ODS code X99999",
    ]


@pytest.mark.parametrize(("old", "new", "told"), [
    ('keep = "continuity"', 'keep = "continuity"\nkeeep = 1', "upstreams[0].keeep: unknown key"),
    ('permitted_by = "DPIA 2026-014"', "", "upstreams[0].permitted_by: keep"),
    ('pack = "gp-connect-stu3"', 'pack = "nhs"', 'pack = "nhs": no such pack; there are bars-r4'),
    ('id = "sim"', 'id = "fibre"', 'links[1].id = "fibre": is used twice'),
    ("priority = 2", "priority = 1", "links[1].priority = 1: is used twice"),
    ('ods = "B82002"', 'ods = "B81001"', 'tenants[1].ods = "B81001": is used twice'),
    ("2" * 64, "1" * 64, "tenants[1].clients[0].key_sha256: is that of B81001/booking too"),
    (f'key_sha256 = "{"2" * 64}"', "", "key_sha256: a client needs a key, a certificate"),
    ("127.0.0.1:7001", "127.0.0.1:8081", "links[1].probes[1].target = \"127.0.0.1:8081\": is an"),
    ("127.0.0.1:7001", "127.0.0.1:8081", "links[1].probes: needs at least two targets"),
    ('expect = "here"', 'expect = ""', "links[0].probes[1].expect: an http"),
    ('source = "127.0.0.2"', "", ""),
    ('source = "127.0.0.1"', "", "links[0].interface: needs an interface or a source"),
    ('source = "127.0.0.1"', 'source = "eth0"', 'links[0].source = "eth0": must be an IP address'),
    ('base_url = "http://127.0.0.1:8080/gpc"', 'base_url = "http://127.0.0.1:8080/gpc/"',
     "without query, fragment, user or last slash"),
    ('copies = "marked"', 'pinned_link = "dsl"', 'pinned_link = "dsl": no link has this id'),
    ('copies = "marked"', 'networks = ["10.0.0.1/8"]', 'must be a network such as'),
    ('copies = "marked"', f'certificate_sha256 = "{"a" * 64}"', "needs TLS on the listener"),
    ("port = 0", 'port = "https"', 'listen.port = "https": must be a whole number'),
    ("port = 0", 'certificate = "none.pem"', "listen.key: is needed with a certificate"),
    ("port = 0", "[admin]\naddress = \"0.0.0.0\"", "admin.address"),
])
def test_a_mistake_names_file_key_value_and_rule(tmp_path: Path, old: str, new: str,
                                                 told: str) -> None:
    if not told:
        read(tmp_path, changed(old, new))  # sim has a base URL of its own everywhere
        return
    found = mistakes(tmp_path, changed(old, new))
    assert any(told in line for line in found), found
    assert all(line.startswith("site.toml: ") for line in found)


@pytest.mark.parametrize("secret", ["pgw_0123456789abcdef", "hunter2hunter2"])
def test_a_secret_pasted_where_its_hash_belongs_is_never_shown(tmp_path: Path,
                                                               secret: str) -> None:
    found = mistakes(tmp_path, changed("1" * 64, secret))
    assert any("tenants[0].clients[0].key_sha256: must be 64" in line for line in found)
    found += mistakes(tmp_path, changed("port = 0", f'certificate = "c"\nkey = "{secret}"'))
    assert any("listen.key: must be a reference" in line for line in found)
    assert not any(secret in line for line in found)


def test_what_is_no_toml_or_no_file_is_one_mistake(tmp_path: Path) -> None:
    assert "file: must be TOML" in mistakes(tmp_path, "[[")[0]
    with pytest.raises(ConfigMistakes, match="file: cannot be read: No such file"):
        load(tmp_path / "absent.toml")


@pytest.mark.parametrize("text", ["links = 1", "links = [1]", 'links = "x"\nmqtt = 3', "[gateway]",
                                  "[[links]]\nprobes = [[]]", "[[tenants]]\n[[upstreams]]",
                                  "[gateway]\nname = 3\n[[links]]\n[[links]]\npriority = [1]"])
def test_a_file_of_the_wrong_shape_never_breaks_the_reader(tmp_path: Path, text: str) -> None:
    assert mistakes(tmp_path, text)


def test_networks_of_two_clients_may_not_overlap(tmp_path: Path) -> None:
    text = GOOD.replace('copies = "marked"', 'networks = ["10.1.0.0/16"]').replace(
        'id = "desk"', 'id = "desk"\nnetworks = ["10.1.2.0/24"]')
    assert any("overlaps a network of B81001/booking" in line for line in mistakes(tmp_path, text))


def test_aliases_of_two_upstreams_may_not_clash(tmp_path: Path) -> None:
    second = GOOD[GOOD.index("[[upstreams]]"):].replace('id = "gpc"', 'id = "gpc2"')
    text = GOOD + 'aliases = ["http://p.nhs.uk/a"]\n' + second + \
        'aliases = ["http://p.nhs.uk/a/b", "http://p.nhs.uk/ab"]\n'
    found = mistakes(tmp_path, text)
    assert found == ['site.toml: upstreams[1].aliases[0] = "http://p.nhs.uk/a/b": clashes with '
                     "http://p.nhs.uk/a of gpc"]


def test_files_and_references_must_be_there(tmp_path: Path) -> None:
    text = changed("port = 0", 'certificate = "absent.pem"\nkey = "env:NOWHERE/listener.key"')
    found = mistakes(tmp_path, text)
    assert "site.toml: listen.certificate: cannot be read (No such file or directory): " \
        "absent.pem" in found
    assert "site.toml: listen.key: the environment has no variable NOWHERE" in found


def test_a_clients_certificate_is_reduced_to_its_fingerprint(tmp_path: Path) -> None:
    _self_signed(tmp_path)
    text = changed("port = 0", 'certificate = "c.pem"\nkey = "file:c.key"').replace(
        'copies = "marked"', 'certificate = "c.pem"')
    found = read(tmp_path, text)
    der = ssl.PEM_cert_to_DER_cert((tmp_path / "c.pem").read_text())
    assert found.tenants[0].clients[0].certificate_sha256 == hashlib.sha256(der).hexdigest()
    assert found.client_pems == (str(tmp_path / "c.pem"),)
    (tmp_path / "c.pem").write_text("no certificate")
    assert any("holds no PEM certificate" in line for line in mistakes(tmp_path, text))


def _self_signed(where: Path) -> None:
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-days", "2",
                    "-keyout", str(where / "c.key"), "-out", str(where / "c.pem")],
                   check=True, capture_output=True)


def test_windows_become_utc_and_their_mistakes_are_named(tmp_path: Path) -> None:
    window = '[[maintenance]]\nid = "CHG1"\nlink = "{}"\nstart = "{}"\nend = "{}"\n'
    found = read(tmp_path, GOOD + window.format("fibre", "2026-07-01T02:00", "2026-07-01T04:00"))
    assert (found.windows[0].end - found.windows[0].start) == 7200
    assert float(found.windows[0].start) == 1782867600  # 01:00 UTC: summer time
    text = GOOD + window.format("dsl", "2026-03-29T01:30", "tomorrow")
    told = mistakes(tmp_path, text)
    assert any('link = "dsl": no link has this id' in line for line in told)
    assert any("start = \"2026-03-29T01:30\": does not exist" in line for line in told)
    assert any('end = "tomorrow": must be a time such as' in line for line in told)


def test_the_sites_own_pack_wins_and_its_mistakes_are_told(tmp_path: Path) -> None:
    packs = tmp_path / "packs"
    packs.mkdir()
    (packs / "local.toml").write_text('name = "local"\n[[routes]]\nid = "a"\npath = "("\n')
    text = GOOD.replace('state_dir = "state"', 'state_dir = "state"\npacks_dir = "packs"').replace(
        'pack = "gp-connect-stu3"', 'pack = "local"')
    assert any("local.toml: routes[0].path" in line and "no regular expression" in line
               for line in mistakes(tmp_path, text))
    (packs / "local.toml").write_text('name = "local"\n[[routes]]\nid = "a"\npath = "x"\n')
    assert read(tmp_path, text).packs["local"].routes[0].id == "a"


def test_one_link_or_plain_http_outside_is_a_warning(tmp_path: Path) -> None:
    text = GOOD[:GOOD.index('[[links]]\nid = "sim"')] + GOOD[GOOD.index("[[tenants]]"):]
    text = text.replace('base_urls = { sim = "http://127.0.0.1:8081/gpc" }\n', "").replace(
        "http://127.0.0.1:8080/gpc", "http://provider.example.nhs.uk/gpc")
    found = read(tmp_path, text)
    assert any("only one" in line for line in found.warnings)
    assert any("plain http beyond this machine" in line for line in found.warnings)


def test_readiness_fate_and_calendars_become_core_types(tmp_path: Path) -> None:
    more = """
[readiness]
monday = "09:15"
[[calendars]]
id = "north"
link = "fibre"
file = "works.ics"
"""
    found = read(tmp_path, changed('id = "fibre"', 'id = "fibre"\nfate = ["carrier:n"]') + more)
    assert found.fates == {"fibre": frozenset({"carrier:n"}), "sim": frozenset()}
    assert found.readiness.monday == "09:15"
    (calendar,) = found.calendars
    assert calendar.file == str(tmp_path / "works.ics")
    assert calendar.refresh_s == 3600.0


@pytest.mark.parametrize(("more", "words"), [
    ('[readiness]\nmonday = "8"', 'readiness.monday = "8": must be'),
    ('[[calendars]]\nid = "n"\nlink = "fibre"\nurl = "ftp://x"', "calendars[0].url"),
])
def test_bad_times_and_addresses_are_named(tmp_path: Path, more: str, words: str) -> None:
    assert any(words in line for line in mistakes(tmp_path, GOOD + more))


def test_an_unknown_kind_of_fate_is_named(tmp_path: Path) -> None:
    found = mistakes(tmp_path, changed('id = "fibre"', 'id = "fibre"\nfate = ["moon:n"]'))
    assert any("links[0].fate[0]" in line and "kind:name" in line for line in found), found
