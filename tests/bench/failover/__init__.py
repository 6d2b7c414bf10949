"""Our gateway beside nginx, HAProxy and Envoy: ``python -m tests.bench.failover``."""
