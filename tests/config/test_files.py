"""References and the files behind them."""

from pathlib import Path

import pytest

from gateway.config.files import fingerprint, interfaces, located, resolve


def test_a_reference_is_a_file_or_a_variable_that_names_one() -> None:
    base = Path("/etc/site")
    assert resolve("file:/run/x", base, {}) == "/run/x"
    assert resolve("file:tls/x", base, {}) == "/etc/site/tls/x"
    assert resolve("env:KEY", base, {"KEY": "/run/k"}) == "/run/k"
    assert resolve("env:DIR/device.key", base, {"DIR": "/run/d"}) == "/run/d/device.key"
    assert resolve("", base, {}) == ""
    with pytest.raises(ValueError, match="no variable KEY"):
        resolve("env:KEY", base, {})


def test_a_relative_path_counts_from_the_configuration() -> None:
    assert located("a.pem", Path("/etc/site")) == "/etc/site/a.pem"
    assert located("", Path("/etc/site")) == ""


def test_a_file_without_certificate_has_no_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="no PEM certificate"):
        fingerprint(str(tmp_path / "x"))


def test_this_machine_has_a_loopback() -> None:
    found = interfaces()
    assert found is None or "lo" in found
