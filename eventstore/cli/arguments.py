"""What an argument of the command line may be: each function returns its value, or says what is wrong with it."""

from __future__ import annotations

import argparse
import re
import threading
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones


def importable(path: str) -> Path:
    if Path(path).suffix.lower() not in {".csv", ".jsonl"}:
        raise argparse.ArgumentTypeError(f"{path!r} is called neither .csv nor .jsonl")
    return Path(path)


def delimiter(text: str) -> str:
    delimiter = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise argparse.ArgumentTypeError(f"{text!r} must be one character, such as ';', or the word tab")
    return delimiter


def zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if not available_timezones():
            raise argparse.ArgumentTypeError(
                "this system has no time zones: `pip install tzdata` brings them"
            ) from None
        raise argparse.ArgumentTypeError(f"{name!r} is not a time zone such as Europe/Amsterdam or UTC") from None


def count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number


def moment(text: str) -> datetime:
    """``2h`` ago, or a time in ISO 8601; without an offset it is UTC."""
    ago = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    try:
        if ago is None:
            found = datetime.fromisoformat(text)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        return datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither like 30s, 10m, 2h, 3d or 1w, nor a time such as 2026-05-01T12:00"
        ) from None


def age(text: str) -> datetime:
    """The moment that was so long ago."""
    if re.fullmatch(r"[0-9]{1,9}[smhdw]", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 90d, 2w or 12h")
    return moment(text)


_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not like user=ann")
    return name, value


def positive(text: str) -> int:
    if count(text) < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return int(text)
