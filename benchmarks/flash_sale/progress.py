"""Shows on standard error how a sale goes, while it goes; silent when that is no terminal.

Told only a total and a function that counts. Called by the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_TICK_S = 0.25

Counts = Callable[[], tuple[int, int, int]]


@asynccontextmanager
async def live_progress(total: int, counts: Counts, show: bool | None) -> AsyncIterator[None]:
    """A bar of the buyers answered, with what became of them, for as long as the context is open."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("Selling"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[green]{task.fields[sold]:,} sold[/] {task.fields[refused]:,} refused"),
        TextColumn("[red]{task.fields[failed]:,} errors[/]"),
        TimeElapsedColumn(),
        console=console,
        disable=not (console.is_terminal if show is None else show),
    )
    task = bar.add_task("", total=total, sold=0, refused=0, failed=0)

    def tell() -> None:
        sold, refused, failed = counts()
        bar.update(task, completed=sold + refused + failed, sold=sold, refused=refused, failed=failed)

    async def keep_telling() -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            tell()

    with bar:
        teller = asyncio.create_task(keep_telling())
        try:
            yield
        finally:
            teller.cancel()
            with suppress(asyncio.CancelledError):
                await teller
            tell()
