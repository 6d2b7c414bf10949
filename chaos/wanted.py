"""What a run asks of its gateway's configuration."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run asks of its gateway's configuration.

    ``windows`` count from ``World.epoch``, LEAD_S after the configuration is written: a gateway
    reads its calendar once, and must have come up by then.
    """

    hold_s: float = 4.0
    step_s: float = 0.3
    will_delay_s: int = 5
    windows: tuple[tuple[str, float, float, float], ...] = ()  # link, from, to, drain_s: see epoch
    requests_max: int = 256
    telemetry: bool = True  # False where no broker can be had
    tls: bool = False  # the upstreams have a certificate
    names: bool = False  # the upstreams have a name, which each link's resolver knows
    sim: str = ""  # further keys of the SIM's link, TOML
    judgement: str = ""  # further keys of [judgement], TOML
    anchors: bool = False  # probes by signed echoes, too; on a rig that carries datagrams alone
