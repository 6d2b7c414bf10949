"""The log: JSON lines, and nothing in them that a patient or a key could be read from."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.edge import log


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """A log of our own on a text buffer; the root logger is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    log.start("info", stream)
    yield stream
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


def told(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_time_level_room_words_and_fields(lines: io.StringIO) -> None:
    logging.getLogger("gateway.flow.watch").info("link %s is %s", "fibre", "DOWN",
                                                 extra={"cause": "BLACKHOLE", "lasted_s": 1.5})
    line = told(lines)[0]
    assert line.pop("ts") > 1_750_000_000
    assert line == {"level": "info", "room": "flow.watch", "what": "link fibre is DOWN",
                    "cause": "BLACKHOLE", "lasted_s": 1.5}


def test_what_is_below_the_level_is_not_told(lines: io.StringIO) -> None:
    logging.getLogger("gateway.x").debug("attempt")
    logging.getLogger("aiohttp.access").error("GET /Patient/1")
    logging.getLogger("aiohttp.server").error("GET /Patient/1")
    assert told(lines) == []


@pytest.mark.parametrize("secret", [
    "https://provider.example.nhs.uk/B81001/Patient?identifier=9990000018",
    "9990000018", "999 000 0018", "999-000-0018",
    "pgw_Bfdp5VnWfOnGUtWBnZvVZOmjfg0VJl6QKHxaCD3k7bU",
    "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", "Basic QjgxMDAxOnBnd19h",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",
    "/Slot?start=ge2026", "0123456789abcdef" * 4])
def test_what_looks_like_a_url_key_or_number_is_struck(lines: io.StringIO, secret: str) -> None:
    logger = logging.getLogger("gateway.x")
    logger.warning("refused %s", secret, extra={"detail": f"was {secret}", "body": {"a": secret}})
    logger.warning("refused " + "x" * 5, extra={"detail": secret})
    out = lines.getvalue()
    assert secret not in out
    for part in secret.split():
        assert len(part) < 8 or part not in out
    assert told(lines)[0]["body"] == "dict"


def test_an_exception_tells_its_type_and_places_never_its_words(lines: io.StringIO) -> None:
    try:
        raise ValueError("Patient Zäbel, Marked 9990000018")
    except ValueError:
        logging.getLogger("gateway.x").exception("turn failed")
    line = told(lines)[0]
    assert line["error"] == "ValueError"
    assert line["places"][0].startswith("test_log.py:")
    assert "Marked" not in lines.getvalue()


def test_of_other_peoples_libraries_only_the_template_is_told(lines: io.StringIO) -> None:
    logging.getLogger("asyncio").warning("trouble with %r", "Marked", extra={"who": "Marked"})
    assert told(lines)[0]["what"] == "trouble with %r"
    assert "Marked" not in lines.getvalue()


def test_a_text_has_a_limit() -> None:
    assert len(log.strike("word " * 1000)) <= log.TEXT_MAX + 3
    assert log.strike("x" * log.TEXT_MAX) == "x" * log.TEXT_MAX
