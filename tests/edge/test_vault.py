"""Keys: made once, refused when missing, and nothing opens that was not sealed just so."""

import hashlib
import os
import re
from pathlib import Path

import pytest

from gateway.edge.vault import (
    API_KEY_PREFIX,
    Safe,
    Vault,
    count_boot,
    new_api_key,
    records_path,
)
from gateway.errors import KeysMissing


def safe_of(state_dir: Path, ods: str = "B81001") -> Safe:
    Vault.init(state_dir, ("B81001", "B81002"))
    return Vault.open(state_dir).safe(ods)


def test_what_was_sealed_opens_to_the_same_bytes_and_only_under_its_own_context(
        tmp_path: Path) -> None:
    safe = safe_of(tmp_path)
    sealed = safe.seal(b"row 1", b"Nora O\xe2\x80\x99Neill" * 100)

    assert safe.open(b"row 1", sealed) == b"Nora O\xe2\x80\x99Neill" * 100
    assert safe.open(b"row 2", sealed) is None
    assert b"Nora" not in sealed
    assert len(sealed) < 200, "squeezed before it was sealed"


def test_each_seal_differs_and_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    safe = safe_of(tmp_path)
    sealed = safe.seal(b"row", b"body")

    assert safe.seal(b"row", b"body") != sealed
    for place in range(len(sealed) * 8):
        bent = bytearray(sealed)
        bent[place // 8] ^= 1 << place % 8
        assert safe.open(b"row", bytes(bent)) is None, f"bit {place}"
    for cut in range(len(sealed)):
        assert safe.open(b"row", sealed[:cut]) is None, f"cut at {cut}"


def test_another_tenants_key_opens_nothing_and_finds_nothing(tmp_path: Path) -> None:
    mine, theirs = safe_of(tmp_path), safe_of(tmp_path, "B81002")

    assert theirs.open(b"row", mine.seal(b"row", b"body")) is None
    assert theirs.digest("key", "a") != mine.digest("key", "a")


def test_the_same_secret_under_another_tenants_name_opens_nothing(tmp_path: Path) -> None:
    """The name is bound too: a wrapped key copied over another's cannot be unwrapped."""
    safe_of(tmp_path)
    keys = tmp_path / "keys" / "tenants"
    (keys / "B81002.key").write_bytes((keys / "B81001.key").read_bytes())

    with pytest.raises(KeysMissing, match=r"B81002\.key"):
        Vault.open(tmp_path).safe("B81002")


def test_digests_bind_the_length_of_each_part(tmp_path: Path) -> None:
    safe = safe_of(tmp_path)
    assert safe.digest("ab", "c") != safe.digest("a", "bc")


def test_keys_survive_a_restart_and_are_never_made_twice(tmp_path: Path) -> None:
    assert Vault.init(tmp_path, ("B81001",)) == ("device", "tenant B81001")
    sealed = Vault.open(tmp_path).safe("B81001").seal(b"row", b"body")

    assert Vault.init(tmp_path, ("B81001",)) == ()
    assert Vault.open(tmp_path).safe("B81001").open(b"row", sealed) == b"body"


def test_key_files_are_for_their_owner_only_and_hold_no_key_in_clear(tmp_path: Path) -> None:
    Vault.init(tmp_path, ("B81001",))
    files = [path for path in (tmp_path / "keys").rglob("*") if path.is_file()]

    assert {path.name for path in files} == {"device.key", "B81001.key"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "keys").rglob("*"))


@pytest.mark.parametrize("gone", ["device.key", "tenants/B81001.key"])
def test_a_store_beside_missing_keys_is_refused_and_no_key_is_made(
        tmp_path: Path, gone: str) -> None:
    Vault.init(tmp_path, ("B81001",))
    store = records_path(tmp_path, "B81001")
    store.parent.mkdir()
    store.write_bytes(b"copies")
    (tmp_path / "keys" / gone).unlink()

    with pytest.raises(KeysMissing, match=re.escape(gone.rsplit("/", 1)[-1])):
        Vault.open(tmp_path).safe("B81001")
    with pytest.raises(KeysMissing):
        Vault.init(tmp_path, ("B81001",))
    assert not (tmp_path / "keys" / gone).exists()
    assert store.read_bytes() == b"copies"


def test_a_lost_device_key_is_not_replaced_while_it_wraps_tenants(tmp_path: Path) -> None:
    Vault.init(tmp_path, ("B81001",))
    (tmp_path / "keys" / "device.key").unlink()

    with pytest.raises(KeysMissing, match=r"B81001\.key"):
        Vault.init(tmp_path, ("B81001",))


def test_one_tenants_damaged_key_leaves_the_others_open(tmp_path: Path) -> None:
    Vault.init(tmp_path, ("B81001", "B81002"))
    (tmp_path / "keys" / "tenants" / "B81001.key").write_bytes(b"rot")
    vault = Vault.open(tmp_path)

    with pytest.raises(KeysMissing):
        vault.safe("B81001")
    assert vault.safe("B81002").tenant == "B81002"


def test_a_new_tenant_gets_its_keys_when_it_is_first_opened(tmp_path: Path) -> None:
    Vault.init(tmp_path, ())
    sealed = Vault.open(tmp_path).safe("Y00001").seal(b"row", b"body")
    assert Vault.open(tmp_path).safe("Y00001").open(b"row", sealed) == b"body"


@pytest.mark.parametrize("written", [bytes(range(32)), bytes(range(32)).hex().encode() + b"\n"])
def test_the_device_key_may_come_as_a_credential_and_is_never_made_there(
        tmp_path: Path, written: bytes) -> None:
    credential = tmp_path / "credentials" / "device.key"
    with pytest.raises(KeysMissing):
        Vault.init(tmp_path, ("B81001",), credential)
    credential.parent.mkdir()
    credential.write_bytes(written)

    assert Vault.init(tmp_path, ("B81001",), credential) == ("tenant B81001",)
    assert Vault.open(tmp_path, credential).safe("B81001").tenant == "B81001"
    assert not (tmp_path / "keys" / "device.key").exists()


@pytest.mark.parametrize("written", [b"", b"short", b"z" * 64, bytes(31), b"ab" * 31])
def test_what_is_no_device_key_is_refused_by_name(tmp_path: Path, written: bytes) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "device.key").write_bytes(written)
    with pytest.raises(KeysMissing, match=r"device\.key: not a device key"):
        Vault.open(tmp_path)


def test_without_any_key_the_engineer_is_told_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(KeysMissing, match="practice-gateway keys init"):
        Vault.open(tmp_path)


@pytest.mark.parametrize("ods", ["../B81001", "B8/1", "", "B81001\n", "é"])
def test_a_code_that_could_climb_out_of_the_folder_names_no_file(tmp_path: Path, ods: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        records_path(tmp_path, ods)


def test_the_boot_counter_rises_at_each_start_and_never_falls(tmp_path: Path) -> None:
    Vault.init(tmp_path, ())
    first, second = Vault.open(tmp_path), Vault.open(tmp_path)

    assert (first.boot, second.boot, second.next_box()) == (1, 2, 3)
    assert Vault.open(tmp_path).boot == 4


def test_a_lost_or_spoilt_boot_counter_goes_on_above_any_count(tmp_path: Path) -> None:
    assert count_boot(tmp_path) == 1
    (tmp_path / "keys" / "boot").write_text("\0\0\0")
    assert count_boot(tmp_path) > 1_000_000
    (tmp_path / "outbox.db").touch()
    os.utime(tmp_path / "outbox.db", (2_000_000_000, 2_000_000_000))
    (tmp_path / "keys" / "boot").unlink()
    assert count_boot(tmp_path) == 2_000_000_001


def test_an_api_key_is_known_by_its_prefix_and_given_with_its_hash() -> None:
    key, digest = new_api_key()
    other, _ = new_api_key()

    assert key.startswith(API_KEY_PREFIX)
    assert len(key) > 40
    assert key != other
    assert digest == hashlib.sha256(key.encode()).hexdigest()


def test_no_key_shows_in_a_repr(tmp_path: Path) -> None:
    Vault.init(tmp_path, ("B81001",))
    vault = Vault.open(tmp_path)
    device = (tmp_path / "keys" / "device.key").read_bytes()

    for text in (repr(vault), repr(vault.safe("B81001"))):
        assert "_key" not in text.replace(str(tmp_path), "")
        assert repr(device)[2:-1] not in text


def test_no_folder_on_the_way_to_a_key_is_open_to_others(tmp_path: Path) -> None:
    Vault.init(tmp_path / "deep" / "state", ("B81001",))

    for folder in (tmp_path / "deep", tmp_path / "deep" / "state",
                   tmp_path / "deep" / "state" / "keys"):
        assert folder.stat().st_mode & 0o077 == 0
