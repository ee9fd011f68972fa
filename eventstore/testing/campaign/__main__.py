"""The command. Exit status 0 if every promise held and every fault was delivered, else 1.

With ``--planted`` it ends as soon as the bug has shown, with status 1 as for any anomaly.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from eventstore.testing.campaign.checker import ANOMALIES
from eventstore.testing.campaign.driver import Campaign, Options, Report
from eventstore.testing.campaign.planted import BUGS


def _parser() -> argparse.ArgumentParser:
    defaults = Options()
    parser = argparse.ArgumentParser("eventstore.testing.campaign", description="Break things; count what goes wrong.")
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="how long faults are delivered")
    parser.add_argument("--minimum", type=int, default=defaults.minimum, help="how often each must be delivered")
    parser.add_argument("--appends", type=int, default=defaults.appends, help="how many must be acknowledged")
    parser.add_argument("--writers", type=int, default=defaults.writers, help="half of them go through a proxy")
    parser.add_argument("--readers", type=int, default=defaults.readers)
    parser.add_argument("--streams", type=int, default=defaults.streams, help="that the writers share")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of what happens; when, the machine decides")
    parser.add_argument("--planted", choices=BUGS, help="a bug that must be caught")
    parser.add_argument("--directory", type=Path, help="where histories and report.json are kept; otherwise nowhere")
    return parser


def main() -> int:
    """Run a campaign and print its tables."""
    arguments = vars(_parser().parse_args())
    directory: Path | None = arguments.pop("directory")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Cleans up as Ctrl-C does.
    with ExitStack() as stack:
        if directory is None:
            kept = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="campaign-")))
        else:
            kept = directory
            kept.mkdir(parents=True, exist_ok=True)
            if any(kept.iterdir()):
                raise SystemExit(f"{kept} is not empty: an older history would be taken for one of this campaign")
        try:
            report = Campaign(Options(**arguments), kept).run()
        except KeyboardInterrupt:
            return 130
        (kept / "report.json").write_text(
            json.dumps({**asdict(report), "clean": report.clean, "caught": report.caught})
        )
    sys.stdout.write("\n".join(_lines(report)) + "\n")
    return 0 if report.clean else 1


def _lines(report: Report) -> Iterable[str]:
    yield f"seed {report.options.seed}, {report.seconds:.0f} s"
    yield from _table("fault", {**report.faults, "all": sum(report.faults.values())})
    yield from _table("fact", report.facts)
    yield from _table("anomaly", report.anomalies)
    for kind, examples in report.examples.items():
        yield f"{kind}: {ANOMALIES[kind]}"
        yield from (f"  {example}" for example in examples)
    yield from report.problems
    if report.missing:
        yield f"delivered less than {report.options.minimum} times: {', '.join(report.missing)}"
    if report.options.planted:
        yield f"planted {report.options.planted}: {'caught' if report.caught else 'NOT caught'}"


def _table(head: str, numbers: dict[str, int]) -> Iterable[str]:
    yield ""
    yield f"{head:<50} {'number':>10}"
    yield from (f"{name:<50} {number:>10}" for name, number in numbers.items())


if __name__ == "__main__":
    sys.exit(main())
