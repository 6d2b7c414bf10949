"""Each door against the real thing: sockets, SQLite, mosquitto."""
