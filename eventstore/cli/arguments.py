"""What an argument of the command line may be: each function returns its value, or says what is wrong with it."""

from __future__ import annotations

import argparse
import math
import threading
from datetime import UTC, datetime, tzinfo
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


def positive(text: str) -> int:
    if count(text) < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return int(text)


def duration(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds of at least 0")
    return number


def moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in ISO 8601") from None
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no offset: end it with one, such as +01:00 or Z")
    return moment
