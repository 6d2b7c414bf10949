"""What an expert writes for each peer: primary link A, backup link B, reads retried on the other.

Pure: where things are in, text out. The same aims for all three, each in the peer's own means: the
link's health asked every half second, a dead connect given up after 250 ms, a read that has been
silent for a second asked again on the other link (Envoy: hedged at 250 ms, both kept), one worker
(100 requests a second are far from filling one), connections kept alive, no log of requests, and no
cache but where copies are what is compared: of the three only nginx gives old answers when nobody
answers. A write is never sent twice.

Why a second: with half of it a blackhole's maximum is 0.5 s and not 1, at the same p99, but 20 %
loss breaks off more bodies of 30 kB in the middle (nginx 35 of 1,200 instead of 15, HAProxy 49
instead of 37), and what has begun nobody can ask again.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

HEALTH: Final = "/metadata"  # the canary's page of the origin


@dataclass(frozen=True, slots=True)
class Ways:
    """``listen`` is the peer's own port; ``a`` and ``b`` are the origin by either link; with
    ``keep`` a peer that can keeps answers and gives them when no link does."""

    listen: int
    a: tuple[str, int]
    b: tuple[str, int]
    keep: bool = False


def nginx(ways: Ways, home: str) -> str:
    """Return nginx.conf.

    The free nginx asks no health by itself. One failure rests the primary for a second, after
    which a single request tries it again; ``backup`` takes over meanwhile. What it keeps is asked
    again after a second, never renewed behind the reader's back: an old answer while the upstream
    can be reached is a fault here.
    """
    kept = f"proxy_cache_path {home}/cache keys_zone=kept:10m inactive=1d use_temp_path=off;"
    keeping = """
            proxy_cache kept;
            proxy_cache_valid 200 1s;
            proxy_ignore_headers Cache-Control Expires;
            proxy_cache_use_stale error timeout invalid_header http_502 http_503 http_504;"""
    return f"""daemon off;
user root;
worker_processes 1;
pid {home}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    keepalive_requests 1000000;
    {kept if ways.keep else ""}
    upstream origin {{
        zone origin 64k;
        server {ways.a[0]}:{ways.a[1]} max_fails=1 fail_timeout=1s;
        server {ways.b[0]}:{ways.b[1]} backup max_fails=1 fail_timeout=1s;
        keepalive 128;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{ways.listen} backlog=4096;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_socket_keepalive on;
            proxy_buffers 16 8k;
            proxy_connect_timeout 250ms;
            proxy_send_timeout 1s;
            proxy_read_timeout 1s;
            proxy_next_upstream error timeout invalid_header http_502 http_503 http_504;
            proxy_next_upstream_tries 3;
            proxy_next_upstream_timeout 3s;{keeping if ways.keep else ""}
        }}
    }}
}}
"""


def haproxy(ways: Ways) -> str:
    """Return haproxy.cfg.

    ``balance first`` and not ``backup``: a retry goes to another server only among those in use,
    and a ``backup`` is not in use while the primary counts as up, so that each retry of the first
    second would go to the dead link again (p99 of a blackhole 520 ms instead of 272, measured).
    """
    return f"""global
    nbthread 1
    maxconn 8192
    spread-checks 0

defaults
    mode http
    timeout client 30s
    timeout http-request 10s
    timeout http-keep-alive 60s
    timeout connect 250ms
    timeout server 1s
    timeout queue 1s
    timeout check 500ms
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response response-timeout junk-response 502 503 504

frontend practice
    bind 127.0.0.1:{ways.listen} backlog 4096
    http-request disable-l7-retry unless METH_GET
    default_backend origin

backend origin
    balance first
    http-reuse safe
    option httpchk GET {HEALTH}
    default-server check inter 500ms fastinter 250ms downinter 500ms fall 2 rise 2
    default-server observe layer7 error-limit 5 on-error mark-down
    default-server maxconn 2000 pool-max-conn 128
    server a {ways.a[0]}:{ways.a[1]} id 1
    server b {ways.b[0]}:{ways.b[1]} id 2
"""


def envoy(ways: Ways) -> str:
    """Return envoy.json: two priorities, active and passive health, hedging at 250 ms.

    Five failures in a row rest the primary for 5 s: with 1 s it was back before the health checks
    had seen the blackhole, and 30 more requests waited 250 ms (measured). A health check that
    passes ends the rest at once, so the longer one costs nothing.
    """
    manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    listener = {
        "name": "practice",
        "address": _address("127.0.0.1", ways.listen),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                **_type(manager),
                "stat_prefix": "practice",
                "http_filters": [{"name": "envoy.filters.http.router", "typed_config": _type(
                    "envoy.extensions.filters.http.router.v3.Router")}],
                "route_config": {"virtual_hosts": [
                    {"name": "all", "domains": ["*"], "routes": [_reads(), _writes()]}]},
            }}]}],
    }
    made = {"static_resources": {"listeners": [listener], "clusters": [_cluster(ways)]}}
    return json.dumps(made, indent=1) + "\n"


def _reads() -> dict[str, Any]:
    """GET: hedged at 250 ms, and on any failure asked again on the link not yet tried."""
    predicate = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    priority = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    return {
        "match": {"prefix": "/", "headers": [
            {"name": ":method", "string_match": {"exact": "GET"}}]},
        "route": {
            "cluster": "origin",
            "timeout": "5s",
            "hedge_policy": {"hedge_on_per_try_timeout": True},
            "retry_policy": {
                "retry_on": "5xx,reset,connect-failure,refused-stream",
                "num_retries": 3,
                "per_try_timeout": "0.25s",
                "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.01s"},
                "retry_priority": {
                    "name": "envoy.retry_priorities.previous_priorities",
                    "typed_config": {**_type(priority), "update_frequency": 1}},
                "retry_host_predicate": [{
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": _type(predicate)}],
                "host_selection_retry_max_attempts": 3,
            },
        },
    }


def _writes() -> dict[str, Any]:
    """Everything else goes out once: only a connect that failed is tried again."""
    return {"match": {"prefix": "/"}, "route": {
        "cluster": "origin", "timeout": "10s",
        "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2}}}


def _cluster(ways: Ways) -> dict[str, Any]:
    unlimited = {"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096,
                 "max_retries": 1024}
    return {
        "name": "origin",
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "load_assignment": {"cluster_name": "origin", "endpoints": [
            {"priority": rank, "lb_endpoints": [{"endpoint": {"address": _address(*way)}}]}
            for rank, way in enumerate((ways.a, ways.b))]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {"thresholds": [{"priority": "DEFAULT", **unlimited}]},
        "health_checks": [{
            "timeout": "0.5s", "interval": "0.5s", "no_traffic_interval": "0.5s",
            "unhealthy_interval": "0.5s", "unhealthy_threshold": 2, "healthy_threshold": 2,
            "http_health_check": {"path": HEALTH}}],
        "outlier_detection": {
            "consecutive_5xx": 5, "consecutive_gateway_failure": 5,
            "enforcing_consecutive_gateway_failure": 100,
            "consecutive_local_origin_failure": 5, "split_external_local_origin_errors": True,
            "interval": "0.25s", "base_ejection_time": "5s", "max_ejection_time": "5s",
            "max_ejection_percent": 100},
        "upstream_connection_options": {"tcp_keepalive": {
            "keepalive_probes": 2, "keepalive_time": 1, "keepalive_interval": 1}},
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _type(name: str) -> dict[str, str]:
    return {"@type": f"type.googleapis.com/{name}"}
