"""Counters of devices: this kernel's own, a device that is made again, and none."""

from pathlib import Path

from gateway.core.quota import Reading
from gateway.edge.meter import Meter, device_of


def device(folder: Path, name: str, number: int, rx: int, tx: int) -> None:
    (folder / name / "statistics").mkdir(parents=True, exist_ok=True)
    (folder / name / "ifindex").write_text(f"{number}\n")
    (folder / name / "statistics" / "rx_bytes").write_text(f"{rx}\n")
    (folder / name / "statistics" / "tx_bytes").write_text(f"{tx}\n")


def test_both_ways_count_and_a_device_made_again_is_another_counter(tmp_path: Path) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("b1\n")
    meter = Meter({"sim": ("wwan0", "")}, tmp_path, boot)
    assert meter.read("sim") is None

    device(tmp_path, "wwan0", 4, 100, 20)
    assert meter.read("sim") == Reading(120, "b1/4")

    device(tmp_path, "wwan0", 9, 5, 1)
    assert meter.read("sim") == Reading(6, "b1/9")


def test_a_link_bound_by_address_is_counted_by_the_device_that_has_it() -> None:
    assert device_of("127.0.0.1") == "lo"
    assert device_of("192.0.2.77") == ""

    one = Meter({"sim": ("", "127.0.0.1")}).read("sim")
    assert one is not None
    assert one.bytes >= 0
    assert one.life.count("/") == 1


def test_a_link_without_a_device_says_so() -> None:
    meter = Meter({"demo": ("", ""), "sim": ("wwan0", "")})

    assert not meter.has_device("demo")
    assert meter.read("demo") is None
    assert meter.has_device("sim")
