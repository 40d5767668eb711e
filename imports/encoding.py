"""Which encoding a text file is in, tried over the whole file, with a plain word where it is none.

UTF-8 (with or without a byte order mark) and UTF-16 (with one) are recognised; what is neither is taken
for Windows-1252, the usual export of a spreadsheet and a superset of Latin-1, and that is said aloud.
Called by `imports.rows`.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from imports.columns import ImportFailedError


def encoding_of(path: Path, wanted: str | None) -> tuple[str, list[str]]:
    """The file's encoding, tried over the whole file, and what to tell about it."""
    if wanted is not None:
        try:
            codecs.lookup(wanted)
        except LookupError as error:
            raise ImportFailedError(f"--encoding: there is no encoding {wanted!r}") from error
        if failure := _undecodable(path, wanted):
            raise ImportFailedError(f"{path} is not {wanted}: {failure}")
        return wanted, []
    with path.open("rb") as raw:
        start = raw.read(4096)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", []
    if b"\0" in start:
        raise ImportFailedError(f"{path} is not text: it has zero bytes")
    failure = _undecodable(path, "utf-8-sig")
    if failure is None:
        return "utf-8-sig", []
    if _undecodable(path, "cp1252") is None:
        return "cp1252", [f"not UTF-8 ({failure}); read as Windows-1252 (Latin-1), else say --encoding"]
    raise ImportFailedError(f"{path} is neither UTF-8 ({failure}) nor Windows-1252; say --encoding")


def _undecodable(path: Path, encoding: str) -> str | None:
    """Where the file stops being of this encoding, e.g. `"byte 0xe9 in line 7"`; None if it does not."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with path.open("rb") as raw:
        while True:
            chunk = raw.read(1 << 16)
            try:
                line += decoder.decode(chunk, final=not chunk).count("\n")
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                return f"byte 0x{error.object[error.start]:02x} in line {line}"
            if not chunk:
                return None
