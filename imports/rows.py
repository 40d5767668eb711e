"""The rows of a shop's CSV export, each judged: a `Row` to send, or a `BadRow` with line and reason.

Told the file and the options, it promises one row a SKU, the last valid one, in memory that grows with
the SKUs' names only. Raises `ImportFailedError` for a file that cannot be read at all. It never talks
to a server. Called by `imports.run` and, for real prices, by the flash sale.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from imports.columns import ImportFailedError, ImportOptions, judge_of
from imports.encoding import encoding_of
from imports.fields import InvalidFieldError, currency_digits


@dataclass(frozen=True, slots=True)
class Row:
    """A valid row: the line where it starts, its SKU, and the item a batch endpoint takes."""

    line: int
    sku: str
    item: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    line: int
    reason: str
    sku: str = ""


def open_rows(path: Path, kind: str, options: ImportOptions) -> Rows:
    """Open a file as `"products"` or `"stock"` rows; a context manager.

    Raises `ImportFailedError` for a file that is unreadable, empty or without the columns needed.
    """
    if options.currency is not None:
        _check_currency(options.currency)
    try:
        if not path.is_file():
            raise ImportFailedError(f"{path} is not a file")
        encoding, notes = encoding_of(path, options.encoding)
        return Rows(path.open("rb"), path, encoding, kind, options, notes)
    except OSError as error:
        raise ImportFailedError(f"{path} cannot be read: {error.strerror}") from error


class Rows:
    """One open file: iterating gives every `BadRow`, and of each SKU the last valid `Row`.

    Iterate once. `read_bytes` tells how far it is, `superseded` how many valid rows a later one replaced.
    """

    def __init__(
        self, raw: BinaryIO, path: Path, encoding: str, kind: str, options: ImportOptions, notes: list[str]
    ) -> None:
        self.notes = notes
        self.superseded = 0
        self.total_bytes = path.stat().st_size
        self._raw = raw
        self._text = io.TextIOWrapper(raw, encoding=encoding, newline="")
        try:
            self._reader = csv.reader(self._text, strict=True)
            header = self._header(path)
            self._width = len(header)
            self._sku_at, self._judge = judge_of(header, kind, options)
        except BaseException:
            self._text.close()
            raise

    @property
    def read_bytes(self) -> int:
        return 0 if self._raw.closed else self._raw.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._text.close()

    def __iter__(self) -> Iterator[Row | BadRow]:
        # A SKU is written once, when its last row has passed: were every row sent, a second import of
        # the same file would take live prices and stock through their old values.
        left = self._repeats()
        latest: dict[str, Row] = {}
        for row in self._judged():
            count = left.get(row.sku, 1) - 1
            if row.sku in left:
                left[row.sku] = count
            if isinstance(row, BadRow):
                yield row
            else:
                self.superseded += row.sku in latest
                latest[row.sku] = row
            if count == 0 and row.sku in latest:
                yield latest.pop(row.sku)

    def _repeats(self) -> dict[str, int]:
        """How often each SKU stands in the file, of those that stand there more than once."""
        counts = Counter(self._cell_sku(cells) for _, cells in self._cells() if isinstance(cells, list))
        self._text.seek(0)
        self._reader = csv.reader(self._text, strict=True)
        next(self._reader)
        return {sku: count for sku, count in counts.items() if count > 1}

    def _judged(self) -> Iterator[Row | BadRow]:
        for line, cells in self._cells():
            if isinstance(cells, str):
                yield BadRow(line, cells)
                continue
            try:
                if len(cells) != self._width:
                    raise InvalidFieldError(f"it has {len(cells)} fields, the header has {self._width}")
                yield Row(line, *self._judge(cells))
            except InvalidFieldError as bad:
                yield BadRow(line, str(bad), self._cell_sku(cells))

    def _cells(self) -> Iterator[tuple[int, list[str] | str]]:
        """The fields of each row and the line where it starts; a string says why they cannot be told."""
        reader = self._reader
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                until = f" (it runs to line {reader.line_num})" if reader.line_num > line else ""
                yield line, f"not well-formed CSV: {error}{until}"
                continue
            if cells:
                yield line, cells

    def _cell_sku(self, cells: list[str]) -> str:
        return cells[self._sku_at].strip() if self._sku_at < len(cells) else ""

    def _header(self, path: Path) -> list[str]:
        try:
            header = [name.strip() for name in next(self._reader, [])]
        except csv.Error as error:
            raise ImportFailedError(f"{path}: its first line is not well-formed CSV: {error}") from error
        if not any(header):
            raise ImportFailedError(f"{path} is empty: its first line must name the columns")
        return header


def _check_currency(currency: str) -> None:
    try:
        currency_digits(currency)
    except InvalidFieldError as bad:
        raise ImportFailedError(f"--currency: {bad}") from bad
