"""`lastunit`: the command line. Parses options, prints, exits; everything else is done by what it calls."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="lastunit", help="A checkout engine that sells the last unit exactly once.", no_args_is_help=True,
    add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
products_app = typer.Typer(help="Products.", no_args_is_help=True)
stock_app = typer.Typer(help="Stock.", no_args_is_help=True)
app.add_typer(products_app, name="products")
app.add_typer(stock_app, name="stock")

DataDir = Annotated[Path, typer.Option("--data-dir", help="Where the instance keeps what is its own.")]
Url = Annotated[str | None, typer.Option("--url", help="The server; by default that of the data directory.")]
Token = Annotated[str | None, typer.Option("--token", help="An operator's token; by default one is made.")]
DEFAULT_DATA_DIR = Path(".lastunit")


def _fail(message: str, code: int = 2) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(code)


# ── up ──────────────────────────────────────────────────────────────────────────────────────────────────


@app.command()
def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the API.")] = 8000,
    dashboard_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Ray dashboard.")] = 8265,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    postgres_dsn: Annotated[str | None, typer.Option(help="An existing Postgres instead of the embedded.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="An existing Ray cluster instead of a local one.")] = None,
    api_workers: Annotated[int | None, typer.Option(min=1, max=64, help="API processes.")] = None,
    demo: Annotated[bool | None, typer.Option("--demo/--no-demo", help="The demo shop and its products.")] = None,
    mode: Annotated[str | None, typer.Option(help="development or production.")] = None,
) -> None:
    """Start what is not given: Postgres, Ray, the actors, the API. Ctrl-C stops everything and loses nothing."""
    from cluster.logs import log_to_stderr
    from cluster.settings import SettingsError, load_settings
    from cluster.supervisor import StartError, UpConfig
    from persistence.embedded import EmbeddedPostgres, EmbeddedPostgresError

    log_to_stderr()
    try:
        settings = load_settings(mode=mode, api_workers=api_workers)
    except SettingsError as error:
        raise _fail(str(error)) from None
    if _taken(host, port):
        raise _fail(f"Port {port} on {host} is in use. Stop what uses it, or choose another with --port.")
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    config = UpConfig(
        host=host,
        port=port,
        dashboard_port=dashboard_port,
        data_dir=str(data_dir),
        postgres_dsn=postgres_dsn,
        ray_address=ray_address,
        demo=settings.mode == "development" if demo is None else demo,
    )
    try:
        if postgres_dsn is not None:
            _serve(config, settings, None, postgres_dsn)
        else:
            with EmbeddedPostgres(data_dir) as server:
                _serve(config, settings, server, server.dsn)
    except (StartError, EmbeddedPostgresError) as error:
        raise _fail(str(error), 1) from None


def _serve(config: Any, settings: Any, postgres: Any, dsn: str) -> None:
    from cluster.supervisor import Supervisor

    async def ready(facts: dict[str, Any]) -> None:
        ops = None
        if settings.mode == "development":
            ops = _mint(Path(config.data_dir), "operator", operator=True)
        if config.demo and ops is not None:
            from demo import load_demo
            from operator_client import OperatorClient, Target

            async with OperatorClient(Target(facts["url"], ops)) as client:
                await load_demo(client)
        sys.stdout.write(_start_block(facts, ops, config))
        sys.stdout.flush()

    asyncio.run(Supervisor(config, settings, postgres, ready).run(dsn))


def _start_block(facts: dict[str, Any], ops: str | None, config: Any) -> str:
    """URLs, tokens, a curl that places an order; the last line says that it serves."""
    url = facts["url"]
    lines = [
        f"Demo shop      {url}/" if config.demo else f"API            {url}/v1",
        f"API reference  {url}/docs",
        f"Operators      {url}/ops" + (f"#token={ops}" if ops else ""),
        f"Ray dashboard  {facts['dashboard_url']}",
    ]
    if ops is not None:
        customer = _mint(Path(config.data_dir), "demo-customer")
        lines += ["", f"Operator token (24 h)  {ops}", f"Customer token (24 h)  {customer}"]
    if config.demo:
        body = {
            "line_items": [{"sku": "bouquet_roses", "quantity": 1}],
            "buyer": {"email": "ada@example.com", "name": "Ada Lovelace"},
            "shipping_address": {
                "name": "Ada Lovelace", "line1": "1 Main St", "city": "Springfield", "region": "IL",
                "postal_code": "62704", "country": "US",
            },
            "payments": [{"method": "card", "token": "pm_card_visa"}],
        }  # fmt: skip
        lines += [
            "",
            "Place an order:",
            f"  curl -s {url}/v1/express-checkouts -H 'Content-Type: application/json' \\",
            f"    -H \"Idempotency-Key: $(date +%s%N)-$RANDOM\" -d '{json.dumps(body)}'",
        ]
    return "\n".join([*lines, "", f"ready {url}", ""])


def _taken(host: str, port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


@app.command("_cluster", hidden=True)
def cluster_process() -> None:
    """The cluster process (started by `up`)."""
    from cluster.host import main
    from cluster.logs import log_to_stderr

    log_to_stderr()
    raise typer.Exit(main(os.environ["LASTUNIT_PRIVATE_HOST"]))


@app.command("_api", hidden=True)
def api_process() -> None:
    """The API server (started by `up`)."""
    from api.main import serve
    from cluster.logs import log_to_stderr

    log_to_stderr()
    raise typer.Exit(serve())


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────


def _mint(data_dir: Path, subject: str, *, operator: bool = False) -> str:
    from api.main import development_key

    return development_key(data_dir).mint(subject, operator=operator)


@app.command()
def token(
    customer: Annotated[str | None, typer.Option(help="The customer's name (the JWT's sub).")] = None,
    ops: Annotated[bool, typer.Option("--ops", help="An operator's token.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Print a token for development mode, good for 24 hours."""
    if (customer is None) == (not ops):
        raise _fail("Give either --customer NAME or --ops.")
    if customer is not None and not customer.strip():
        raise _fail("A customer's name is not blank.")
    if not data_dir.is_dir():
        raise _fail(f"There is no data directory {data_dir}. Start `lastunit up` first, or give --data-dir.")
    typer.echo(_mint(data_dir, "operator" if customer is None else customer, operator=ops))


def _target(data_dir: Path, url: str | None, given_token: str | None) -> Any:
    """The server that a command speaks to: given, or the one of the data directory."""
    from operator_client import Target

    if url is None:
        try:
            url = json.loads((data_dir / "instance.json").read_text())["url"]
        except (OSError, ValueError, KeyError):
            raise _fail(f"No running instance in {data_dir}. Start `lastunit up`, or give --url and --token.") from None
    if given_token is None:
        if not (data_dir / "development-jwt.key").exists():
            raise _fail("Give an operator's token with --token.")
        given_token = _mint(data_dir, "operator", operator=True)
    return Target(url.rstrip("/"), given_token)


# ── imports ─────────────────────────────────────────────────────────────────────────────────────────────

Mapping = Annotated[str, typer.Option("--map", help="Names of columns: sku=id,price=unit_price_gbp.")]
Atomic = Annotated[bool, typer.Option("--atomic", help="Import nothing unless every row is good.")]
Encoding = Annotated[str | None, typer.Option(help="Of the file; by default UTF-8, else Windows-1252.")]


@products_app.command("import")
def import_products_command(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    mapping: Mapping = "",
    price_unit: Annotated[str, typer.Option(help="minor or major.")] = "minor",
    currency: Annotated[str | None, typer.Option(help="Of the prices, where no column says it.")] = None,
    atomic: Atomic = False,
    allow_zero_price: Annotated[bool, typer.Option("--allow-zero-price")] = False,
    encoding: Encoding = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    url: Url = None,
    token: Token = None,
) -> None:
    """Create or replace products: columns sku,title,price_minor,currency,weight_g,tax_category."""
    from imports import import_products

    if price_unit not in ("minor", "major"):
        raise _fail("--price-unit is minor or major.")
    options = {"price_unit": price_unit, "currency": currency, "allow_zero_price": allow_zero_price}
    _import(import_products, "Products", file, _target(data_dir, url, token), mapping, atomic, encoding, options)


@stock_app.command("import")
def import_stock_command(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    mapping: Mapping = "",
    atomic: Atomic = False,
    encoding: Encoding = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    url: Url = None,
    token: Token = None,
) -> None:
    """Set what is on hand: columns sku,quantity."""
    from imports import import_stock

    _import(import_stock, "Stock", file, _target(data_dir, url, token), mapping, atomic, encoding, {})


def _import(
    run: Any,
    title: str,
    file: Path,
    target: Any,
    mapping: str,
    atomic: bool,
    encoding: str | None,
    options: dict[str, Any],
) -> None:
    import uvloop

    from imports import ConsoleReport, ImportFailedError, ImportOptions, parse_mapping

    try:
        chosen = ImportOptions(mapping=parse_mapping(mapping), atomic=atomic, encoding=encoding, **options)
        with ConsoleReport(title) as report:
            result = uvloop.run(run(file, target, chosen, report))
    except ImportFailedError as error:
        raise _fail(str(error)) from None
    typer.echo(result.summary())
    raise typer.Exit(result.exit_code)


# ── flash sale ──────────────────────────────────────────────────────────────────────────────────────────


@app.command("flash-sale")
def flash_sale(
    url: Annotated[str | None, typer.Option("--url", help="The server; by default one of the sale's own.")] = None,
    token: Token = None,
    buyers: Annotated[int | None, typer.Option(min=1, help="Default 10000 (with --baskets: every basket).")] = None,
    units: Annotated[int | None, typer.Option(min=0, help="In all; default 100 (with --baskets: generous).")] = None,
    skus: Annotated[int, typer.Option(min=1, max=1000)] = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=4096)] = 256,
    journey: Annotated[str, typer.Option(help="one-shot or full.")] = "one-shot",
    latency_ms: Annotated[str | None, typer.Option(help="Of the sandbox gateway: one number or LOW-HIGH.")] = None,
    baskets: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Replay real baskets.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path("flash-sale-report"),
    client_processes: Annotated[int, typer.Option(min=1, max=16)] = 1,
    seed: Annotated[int, typer.Option()] = 1,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """A sale over HTTP, then the audit. Exit 1 if an invariant is broken."""
    if journey not in ("one-shot", "full"):
        raise _fail("--journey is one-shot or full.")
    options: dict[str, Any] = {
        "buyers": buyers, "units": units, "skus": skus, "concurrency": concurrency, "journey": journey,
        "latency_ms": latency_ms, "baskets": baskets, "client_processes": client_processes, "seed": seed,
    }  # fmt: skip
    if url is not None:
        target = _target(data_dir, url, token)
        raise typer.Exit(_run_sale(target.url, target.token, options, out))
    from benchmarks.flash_sale.own_server import own_server

    with tempfile.TemporaryDirectory(prefix="lastunit-sale-") as folder, own_server(Path(folder)) as server:
        raise typer.Exit(_run_sale(server.url, _mint(Path(folder), "operator", operator=True), options, out))


def _run_sale(url: str, operator_token: str, options: dict[str, Any], out: Path) -> int:
    import uvloop
    from rich.console import Console

    from benchmarks.flash_sale import SaleConfig, SaleFailedError, print_result, run_sale, write_reports

    try:
        result = uvloop.run(run_sale(SaleConfig(url=url, token=operator_token, **options)))
    except SaleFailedError as error:
        raise _fail(str(error)) from None
    print_result(result, Console(width=None if sys.stdout.isatty() else 110))
    for path in write_reports(result, out):
        typer.echo(f"wrote {path}")
    return int(result.exit_code)


# ── audit ───────────────────────────────────────────────────────────────────────────────────────────────


@app.command()
def audit(data_dir: DataDir = DEFAULT_DATA_DIR, url: Url = None, token: Token = None) -> None:
    """Check every invariant on the live system: 0 clean, 1 violations (one line each), 2 could not check."""
    from operator_client import OperatorClient, TargetError

    target = _target(data_dir, url, token)

    async def ask() -> Any:
        async with OperatorClient(target) as client:
            return await client.audit()

    try:
        found = asyncio.run(ask())
    except TargetError as error:
        raise _fail(f"Could not check: {error}") from None
    for violation in found.violations:
        typer.echo(f"{violation.code} {violation.subject}: {violation.detail}")
    checked = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in found.checked.items())
    typer.echo(f"{'consistent' if found.consistent else 'VIOLATED'}: checked {checked}")
    raise typer.Exit(0 if found.consistent else 1)


if __name__ == "__main__":
    app()
