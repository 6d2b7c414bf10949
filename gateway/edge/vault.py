"""Keys, sealing, and the HMACs under which copies are found (continuity.md §9).

Law of the vault:
1. The device key (32 bytes) opens everything. It comes from a credential file that the service
   manager hands over, or stands in ``keys/device.key`` with mode 0600.
2. Each tenant has 32 bytes of its own, wrapped by the device key with AES-256-GCM and bound to
   the tenant's name. From them HKDF-SHA256 (RFC 5869) derives two keys that never meet: one for
   bodies, one for HMACs.
3. Each row is squeezed by zstd, then sealed by AES-256-GCM under a key of its own
   (HKDF of the body key and the row's context) with a random 96-bit nonce. The context (tenant,
   table, row key, schema) is also the associated data, so rows cannot be swapped, and 2^32 seals
   per key (NIST SP 800-38D §8.3) are never near.
4. What is missing is refused, never re-made: a new key beside an old store would make every
   copy unreadable and say nothing.

No key has a ``repr``, and nothing here is logged.
"""

import contextlib
import errno
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from gateway.errors import KeysMissing, StoreFull

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
ZSTD_LEVEL: Final = 3
"""Level 3 squeezes a 30 kB searchset to a tenth in 0.2 ms; 9 takes five times that for 5 %."""
PLAIN_BYTES_MAX: Final = 64 << 20
"""No row opens to more than this."""
API_KEY_PREFIX: Final = "pgw_"
"""So that a key that leaks into a log or a repository is known for what it is."""
BOOT_DIGITS: Final = 16
"""Always as long, so that it can be written over where there is no room for another file."""
_WRAP: Final = b"practice-gateway tenant key 1\0"


@dataclass(frozen=True, slots=True)
class Safe:
    """One tenant's keys at work. ``seal`` and ``open`` may be called from any thread."""

    tenant: str
    _body_key: bytes = field(repr=False)
    _hmac_key: bytes = field(repr=False)

    def digest(self, *parts: str | bytes) -> bytes:
        """Return the HMAC-SHA256 (32 bytes) of ``parts``, each bound by its length."""
        mac = hmac.new(self._hmac_key, digestmod=hashlib.sha256)
        for part in parts:
            raw = part.encode() if isinstance(part, str) else part
            mac.update(len(raw).to_bytes(8, "big"))
            mac.update(raw)
        return mac.digest()

    def seal(self, context: bytes, plain: bytes) -> bytes:
        """Return nonce and sealed ``plain``, bound to the tenant and to ``context``."""
        bound = self._bound(context)
        nonce = secrets.token_bytes(NONCE_BYTES)
        squeezed = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(plain)
        return nonce + AESGCM(self._row_key(bound)).encrypt(nonce, squeezed, bound)

    def open(self, context: bytes, sealed: bytes) -> bytes | None:
        """Return what was sealed under ``context``; None where it is not exactly that."""
        bound = self._bound(context)
        nonce = sealed[:NONCE_BYTES]
        try:
            squeezed = AESGCM(self._row_key(bound)).decrypt(nonce, sealed[NONCE_BYTES:], bound)
            return zstandard.ZstdDecompressor().decompress(
                squeezed, max_output_size=PLAIN_BYTES_MAX)
        except (InvalidTag, ValueError, zstandard.ZstdError):
            return None

    def _bound(self, context: bytes) -> bytes:
        name = self.tenant.encode()
        return len(name).to_bytes(2, "big") + name + context

    def _row_key(self, bound: bytes) -> bytes:
        return HKDFExpand(SHA256(), KEY_BYTES, b"row\0" + bound).derive(self._body_key)


@dataclass(frozen=True, slots=True)
class Vault:
    """The keys of this device. Make it with ``Vault.open``; ask it for a tenant's ``safe``."""

    state_dir: Path
    boot: int
    _device_key: bytes = field(repr=False)

    @classmethod
    def init(cls, state_dir: Path, tenants: Sequence[str], device_key_file: Path | None = None
             ) -> tuple[str, ...]:
        """Make what keys are missing; return their names (``device``, ``tenant B81001``).

        ``device_key_file`` stands elsewhere (a credential) and is read, never made.

        Raises:
            KeysMissing: a store or a wrapped key stands whose key is gone. Nothing was made.
        """
        keys = state_dir / "keys"
        made: list[str] = []
        device = device_key_file or keys / "device.key"
        orphans = [path.name for path in (keys / "tenants").glob("*.key")] if keys.exists() else []
        orphans += [path.name for path in (state_dir / "records").glob("*.db")]
        if not device.exists() and (device_key_file or orphans):
            raise KeysMissing(f"{device}: missing, and cannot be made anew; restore it"
                              + (f" (needed by {', '.join(sorted(orphans))})" if orphans else ""))
        for ods in tenants:
            _refuse_orphan(state_dir, ods)
        if not device.exists():
            _write_secret(device, secrets.token_bytes(KEY_BYTES))
            made.append("device")
        device_key = _read_device_key(device)
        for ods in tenants:
            if not _wrapped_path(state_dir, ods).exists():
                _make_tenant_key(state_dir, ods, device_key)
                made.append(f"tenant {ods}")
        return tuple(made)

    @classmethod
    def open(cls, state_dir: Path, device_key_file: Path | None = None) -> "Vault":
        """Read the device key and count this boot.

        Raises:
            KeysMissing: there is no device key; ``practice-gateway keys init`` makes the first.

        A full disk does not keep it from opening.
        """
        device_key = _read_device_key(device_key_file or state_dir / "keys" / "device.key")
        return cls(state_dir, count_boot(state_dir), device_key)

    def safe(self, ods: str) -> Safe:
        """Return the tenant's keys. A new tenant without a store gets keys of its own.

        Raises:
            KeysMissing: its key is gone, damaged, or wrapped by another device key. That tenant
                goes without its copy; the others are not concerned.
            StoreFull: there was no room to write a new tenant's key; likewise.
        """
        path = _wrapped_path(self.state_dir, ods)
        if not path.exists():
            _refuse_orphan(self.state_dir, ods)
            _make_tenant_key(self.state_dir, ods, self._device_key)
        raw = path.read_bytes()
        try:
            secret = AESGCM(self._device_key).decrypt(
                raw[:NONCE_BYTES], raw[NONCE_BYTES:], _WRAP + ods.encode())
        except (InvalidTag, ValueError) as trouble:
            raise KeysMissing(f"{path}: damaged, or wrapped by another device key; restore the "
                              "keys folder") from trouble
        return Safe(ods, _derived(secret, b"body"), _derived(secret, b"hmac"))

    def sign(self, text: bytes) -> str:
        """Return what only this device can say of ``text``: HMAC-SHA256 in hex."""
        return hmac.new(_derived(self._device_key, b"sign"), text, hashlib.sha256).hexdigest()

    def next_box(self) -> int:
        """Raise the boot counter once more: for an outbox that must begin anew within a boot."""
        return count_boot(self.state_dir)


def count_boot(state_dir: Path) -> int:
    """Raise the counter in ``keys/boot`` by one, on disk, and return it. It never falls.

    Where the counter is unreadable it goes on from the date of the newest trace of an earlier
    start (seconds since 1970), which is above any count of starts. On a full disk it is written
    in place; where even that fails it counts in memory, as a start must not fail for it.
    """
    path = state_dir / "keys" / "boot"
    last = 0
    try:
        last = int(path.read_text("ascii"))
    except (OSError, ValueError):
        for trace in (path, state_dir / "outbox.db"):
            with contextlib.suppress(OSError):
                last = max(last, int(trace.stat().st_mtime))
    content = str(last + 1).zfill(BOOT_DIGITS).encode("ascii")
    try:
        _write_secret(path, content)
    except StoreFull:
        with contextlib.suppress(OSError), path.open("r+b") as file:
            file.write(content)
    return last + 1


def new_api_key() -> tuple[str, str]:
    """Return a client's new API key and its lower-case hex SHA-256, which is what config holds.

    256 random bits: a plain hash is enough, as nothing that strong can be guessed from it.
    """
    key = API_KEY_PREFIX + secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()


def new_shared_secret() -> str:
    """Return a new secret for echoes between links and anchors: 256 random bits as text."""
    return secrets.token_urlsafe(32)


def records_path(state_dir: Path, ods: str) -> Path:
    """Where the tenant's copies stand: one file each (decision 0002)."""
    return state_dir / "records" / f"{_file_name(ods)}.db"


def _wrapped_path(state_dir: Path, ods: str) -> Path:
    return state_dir / "keys" / "tenants" / f"{_file_name(ods)}.key"


def _file_name(ods: str) -> str:
    """ODS codes are letters and digits; anything else is a mistake that must not name a file."""
    if not (ods.isascii() and ods.replace("-", "").isalnum()):
        raise ValueError("a tenant's code may hold only letters, digits and hyphens")
    return ods


def _refuse_orphan(state_dir: Path, ods: str) -> None:
    store = records_path(state_dir, ods)
    if store.exists() and not _wrapped_path(state_dir, ods).exists():
        raise KeysMissing(f"{store}: its key {_wrapped_path(state_dir, ods)} is missing; restore "
                          "the key, or delete the store by hand")


def _make_tenant_key(state_dir: Path, ods: str, device_key: bytes) -> None:
    nonce = secrets.token_bytes(NONCE_BYTES)
    secret = secrets.token_bytes(KEY_BYTES)
    wrapped = AESGCM(device_key).encrypt(nonce, secret, _WRAP + ods.encode())
    _write_secret(_wrapped_path(state_dir, ods), nonce + wrapped)


def _read_device_key(path: Path) -> bytes:
    """32 raw bytes, or 64 hexadecimal digits with or without a line end."""
    try:
        raw = path.read_bytes()
    except OSError as trouble:
        raise KeysMissing(f"{path}: {trouble.strerror}; run: practice-gateway keys init"
                          ) from trouble
    if len(raw) != KEY_BYTES:
        try:
            raw = bytes.fromhex(raw.decode("ascii"))
        except ValueError as trouble:
            raise KeysMissing(f"{path}: not a device key; restore it") from trouble
    if len(raw) != KEY_BYTES:
        raise KeysMissing(f"{path}: not a device key of 32 bytes; restore it")
    return raw


def _derived(secret: bytes, use: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"practice-gateway 1 " + use).derive(secret)


def _write_secret(path: Path, content: bytes) -> None:
    """Write ``path`` whole or not at all, mode 0600, on disk when this returns.

    Raises:
        StoreFull: it could not be written; what stood there stands.
    """
    beside = path.with_name(path.name + ".new")
    try:
        for folder in reversed(path.parents):
            folder.mkdir(mode=0o700, exist_ok=True)  # parents=True would give them 0755
        _write_synced(beside, content)
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as trouble:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise StoreFull(f"{path}: {trouble.strerror}") from trouble


def _write_synced(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(handle, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
