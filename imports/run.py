"""`lastunit products import` and `lastunit stock import`: a CSV file into a shop, over HTTP.

Owns the way from a judged row to a landed one; `imports.rows` reads and judges the file. Promises:
batches, never the whole file; every bad row named with its line and reason while the good ones land
(none of them if `atomic`); the last valid row of a SKU wins; the same file twice changes nothing.
It is told the target and the options, never reads settings. Called by the command line.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from imports.columns import ImportFailedError, ImportOptions
from imports.rows import BadRow, Row, Rows, open_rows
from operator_client import BATCH_LIMIT, BatchResult, OperatorClient, Target, TargetError

Send = Callable[[list[dict[str, Any]], bool], Awaitable[list[BatchResult]]]

_ROW_PATH = re.compile(r"\$\.(?:products|items)\[(\d+)\]\.?(.*)", re.DOTALL)


class Report(Protocol):
    """Where an import tells what happens while it happens."""

    def note(self, sentence: str) -> None: ...
    def bad_row(self, row: BadRow) -> None: ...
    def progress(self, read_bytes: int, total_bytes: int, rows: int) -> None: ...


@dataclass(slots=True)
class ImportResult:
    """What became of the rows, each counted once."""

    landed: dict[str, int] = field(default_factory=dict)
    """Rows by the server's word for them: `created`, `replaced`, `set`, `unchanged`."""
    superseded: int = 0
    """Valid rows that were not sent, because a later one is of the same SKU."""
    bad: int = 0
    withheld: int = 0
    """Valid rows that an atomic import did not send, because others were bad."""

    @property
    def exit_code(self) -> int:
        return 1 if self.bad else 0

    def summary(self) -> str:
        """One line for people, e.g. `1,970 created, 30 unchanged; 88 bad rows`."""
        parts = [f"{count:,} {status}" for status, count in sorted(self.landed.items())]
        if self.superseded:
            parts.append(f"{self.superseded:,} superseded by a later row")
        told = ", ".join(parts) or "nothing to do"
        if self.withheld:
            told = f"nothing landed: {self.withheld:,} good rows withheld (--atomic)"
        return f"{told}; {self.bad:,} bad row{'' if self.bad == 1 else 's'}" if self.bad else told


async def import_products(path: Path, target: Target, options: ImportOptions, report: Report) -> ImportResult:
    """Create or replace the products of a CSV file. Raises `ImportFailedError` when it could not run."""
    async with OperatorClient(target) as operator:

        async def send(items: list[dict[str, Any]], dry_run: bool) -> list[BatchResult]:
            return await operator.put_products(items, dry_run=dry_run)

        return await _run(path, "products", options, report, send)


async def import_stock(path: Path, target: Target, options: ImportOptions, report: Report) -> ImportResult:
    """Set `on_hand` of the SKUs of a CSV file. Raises `ImportFailedError` when it could not run."""
    async with OperatorClient(target) as operator:

        async def send(items: list[dict[str, Any]], dry_run: bool) -> list[BatchResult]:
            return await operator.set_stock(items, f"import of {path.name}", dry_run=dry_run)

        return await _run(path, "stock", options, report, send)


async def _run(path: Path, kind: str, options: ImportOptions, report: Report, send: Send) -> ImportResult:
    result = ImportResult()
    try:
        if options.atomic:
            # The first pass sends everything as a dry run, so that the server's objections count too.
            await _pass_over(path, kind, options, report, send, result, dry_run=True)
            if result.bad:
                return ImportResult(bad=result.bad, withheld=sum(result.landed.values()) + result.superseded)
            result = ImportResult()
        await _pass_over(path, kind, options, report, send, result, dry_run=False)
    except TargetError as error:
        landed = sum(result.landed.values())
        again = f" {landed:,} rows had landed; running it again is safe." if landed else ""
        said = str(error)
        raise ImportFailedError(f"{said if said.endswith(('.', '?')) else said + '.'}{again}") from error
    return result


async def _pass_over(
    path: Path,
    kind: str,
    options: ImportOptions,
    report: Report,
    send: Send,
    result: ImportResult,
    *,
    dry_run: bool,
) -> None:
    with open_rows(path, kind, options) as rows:
        for sentence in rows.notes:
            report.note(sentence)
        batches = _batches(rows)
        batch = await asyncio.to_thread(next, batches, None)
        read = 0
        while batch is not None:
            read += len(batch)
            # One batch is sent while the next is read.
            batch, _ = await asyncio.gather(
                asyncio.to_thread(next, batches, None), _land(batch, report, send, result, dry_run)
            )
            report.progress(rows.read_bytes, rows.total_bytes, read)
        result.superseded = rows.superseded


def _batches(rows: Rows) -> Iterator[list[Row | BadRow]]:
    stream = iter(rows)
    while batch := list(islice(stream, BATCH_LIMIT)):
        yield batch


async def _land(batch: list[Row | BadRow], report: Report, send: Send, result: ImportResult, dry_run: bool) -> None:
    """Send the valid rows of a batch; tell of the others, and of those that the server refuses."""
    good = [row for row in batch if isinstance(row, Row)]
    bad = [row for row in batch if isinstance(row, BadRow)]
    answers: list[BatchResult] = []
    while good:
        try:
            answers = await send([row.item for row in good], dry_run)
            break
        except TargetError as error:
            # A batch refused as a whole has landed nothing: it goes again without the rows that are named.
            refused = _rows_refused(error, good)
            good = [row for row in good if row.line not in refused]
            bad += refused.values()
    for row, answer in zip(good, answers, strict=True):
        if answer.status == "error":
            bad.append(BadRow(row.line, answer.message or answer.code, row.sku))
        else:
            result.landed[answer.status] = result.landed.get(answer.status, 0) + 1
    result.bad += len(bad)
    for bad_row in sorted(bad, key=lambda row: row.line):
        report.bad_row(bad_row)


def _rows_refused(error: TargetError, sent: list[Row]) -> dict[int, BadRow]:
    """By line, the rows that a refused batch was refused for; the error itself if it is about anything else."""
    refused: dict[int, BadRow] = {}
    for problem in error.errors:
        place = _ROW_PATH.fullmatch(problem.path)
        if place is None or int(place[1]) >= len(sent):
            raise error
        row = sent[int(place[1])]
        refused[row.line] = BadRow(row.line, f"{place[2]}: {problem.message}".removeprefix(": "), row.sku)
    if not refused:
        raise error
    return refused


class ConsoleReport:
    """A `Report` on standard error: bad rows one a line, and a progress bar when it is a terminal.

    A context manager; leaving it ends the bar.
    """

    def __init__(self, title: str) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=None, rows=0)

    def __enter__(self) -> ConsoleReport:
        self._bar.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._bar.stop()

    def note(self, sentence: str) -> None:
        self._console.print(f"note: {sentence}", markup=False)

    def bad_row(self, row: BadRow) -> None:
        self._console.print(f"line {row.line}: {row.reason}", markup=False)

    def progress(self, read_bytes: int, total_bytes: int, rows: int) -> None:
        self._bar.update(self._task, completed=read_bytes, total=total_bytes, rows=rows)
