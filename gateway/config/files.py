"""What a configuration points at: files that must be there, references, fingerprints.

Nothing read here is ever shown: a mistake names the key and the path, never the contents.
"""

import hashlib
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from gateway.config.mistakes import Mistakes, Where


def resolve(reference: str, base: Path, env: Mapping[str, str]) -> str:
    """Return the path that ``reference`` names: ``file:PATH``, ``env:NAME`` or ``env:NAME/REST``.

    A relative path counts from ``base``, the directory of the configuration; ``""`` stays so.

    Raises:
        ValueError: the environment has no such variable.
    """
    if not reference:
        return ""
    kind, _, rest = reference.partition(":")
    if kind == "env":
        name, _, tail = rest.partition("/")
        if name not in env:
            raise ValueError(f"the environment has no variable {name}")
        rest = os.path.join(env[name], tail) if tail else env[name]
    return str(base / rest)


def located(path: str, base: Path) -> str:
    """Return ``path`` counted from ``base`` where it is relative; ``""`` stays so."""
    return str(base / path) if path else ""


def must_read(path: str, where: Where, mistakes: Mistakes) -> bool:
    """Whether ``path`` can be read; if not, that is noted."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        mistakes.add(where, f"cannot be read ({error.strerror}): {path}")
        return False
    return True


def look_at_secret(path: str, bytes_min: int) -> tuple[str, str]:
    """Return (what is wrong with the secret in ``path``, what should be looked at); "" for neither.

    White space round it does not count. What cannot be read is ``must_read``'s to tell.
    """
    try:
        with open(path, "rb") as file:
            length = len(file.read(4096).strip())
            mode = os.fstat(file.fileno()).st_mode
    except OSError:
        return "", ""
    short = f"must be at least {bytes_min} bytes, and {path} has {length}"
    shared = f"{path}: others on this machine may read it; chmod 600"
    return short if length < bytes_min else "", shared if mode & 0o077 else ""


def fingerprint(path: str) -> str:
    """Return the SHA-256 of the first certificate (DER) in the PEM file ``path``.

    Raises:
        ValueError: it holds no certificate.
    """
    text = Path(path).read_text("ascii", "replace")
    begin, end = text.find("-----BEGIN CERTIFICATE-----"), text.find("-----END CERTIFICATE-----")
    if begin < 0 or end < begin:
        raise ValueError("holds no PEM certificate")
    der = ssl.PEM_cert_to_DER_cert(text[begin:end] + "-----END CERTIFICATE-----")
    return hashlib.sha256(der).hexdigest()


def interfaces() -> frozenset[str] | None:
    """Return the network interfaces of this machine, None where that cannot be told."""
    try:
        return frozenset(os.listdir("/sys/class/net"))
    except OSError:
        return None
