"""`python -m tests.chaos --minutes 30`: a real `lastunit up` under real buyers, while what it rests on fails.

Owns the command line, the verdict's last word and the report. Exit 0 for "pass", 1 for "fail", 2 for "unknown", 130
when it was interrupted: then nothing it started is left either.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from msgspec.structs import replace

from tests.chaos import availability, small_disk
from tests.chaos.availability import by_fault, late
from tests.chaos.checker import Verdict, check
from tests.chaos.faults import CONCERNS, HEADS
from tests.chaos.run import ANSWERS_LOST, Report, run

INTERRUPTED = 130


def judge(report: Report) -> Verdict:
    """The histories against the reads, and the bounds that the run itself has."""
    verdict = check(report.buyers, report.reads)
    too_late = late(report.faults, report.answers, HEADS)
    return replace(
        verdict,
        violations=[*verdict.violations, *too_late, *report.violations],
        unknown=[*verdict.unknown, *report.unfinished],
    )


async def _until_interrupted(arguments: argparse.Namespace, folder: Path) -> Report:
    """Ends by CancelledError, and in order, at the first SIGINT or SIGTERM."""
    task = asyncio.create_task(
        run(
            arguments.minutes, arguments.seed, arguments.spare, folder,
            lose_answers=arguments.lost_answers, keep=arguments.keep,
        )
    )  # fmt: skip
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def _say(report: Report, verdict: Verdict, seed: int) -> None:
    say = sys.stdout.write
    say("\n".join(availability.lines(by_fault(report.faults, report.answers))) + "\n")
    say("What several faults share, an outage too, is counted for each of them.\n")
    sold = sum(any(answer.status == 200 for answer in buyer.answers) for buyer in report.buyers)
    faults = sum(fault.kind != ANSWERS_LOST for fault in report.faults)
    answered = sum(map(availability.is_answered, report.answers))
    share = answered / len(report.answers) if report.answers else 0.0
    say(f"{len(report.buyers)} buyers, {sold} sold, {faults} faults\n")
    say(f"{len(report.answers)} requests, {share:.2%} answered\n")
    for named in (*report.notes, *verdict.violations, *verdict.unknown):
        say(f"  {named}\n")
    say(f"seed {seed}: {verdict.outcome}\n")


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.chaos")
    arguments.add_argument("--minutes", type=float, default=5.0)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--spare", action="append", default=[], choices=CONCERNS, help="what nothing happens to")
    arguments.add_argument("--lost-answers", action="store_true", help="let Ray lose calls in the last sixth")
    arguments.add_argument("--keep", type=Path, help="folder, for the data directory and the server's log")
    given = arguments.parse_args()
    if given.keep is not None and given.keep.exists():
        arguments.error(f"{given.keep} is there already")
    small_disk.private_mounts()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        try:
            report = asyncio.run(_until_interrupted(given, Path(folder)))
        except asyncio.CancelledError:
            sys.stdout.write("interrupted\n")
            return INTERRUPTED
    verdict = judge(report)
    _say(report, verdict, given.seed)
    return {"pass": 0, "fail": 1, "unknown": 2}[verdict.outcome]


if __name__ == "__main__":
    sys.exit(main())
