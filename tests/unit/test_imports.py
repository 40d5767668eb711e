"""Importing products and stock: what lands, what is named as bad, and what cannot run at all."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imports import (
    ConsoleReport,
    ImportFailedError,
    ImportOptions,
    ImportResult,
    import_products,
    import_stock,
    parse_mapping,
)
from imports.fields import InvalidFieldError, currency_digits, price_to_minor
from imports.rows import BadRow, Row, open_rows
from operator_client import BatchResult, FieldProblem, OperatorClient, Target, TargetError
from tests.unit.fake_shop import TOKEN, FakeShop

FLOWERS = ImportOptions(mapping={"sku": "id", "price_minor": "price"}, currency="USD")
RETAIL = ImportOptions(mapping={"price": "unit_price_gbp"}, price_unit="major", currency="GBP")
RETAIL_HEADER = "invoice,sku,title,quantity,invoiced_at,unit_price_gbp,customer,country\n"


class Told:
    """A report that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.bad: list[tuple[int, str]] = []
        self.read: list[tuple[int, int, int]] = []

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def bad_row(self, row: BadRow) -> None:
        self.bad.append((row.line, row.reason))

    def progress(self, read_bytes: int, total_bytes: int, rows: int) -> None:
        self.read.append((read_bytes, total_bytes, rows))


async def run(
    shop: FakeShop, content: str | bytes, folder: Path, options: ImportOptions, *, kind: str = "products"
) -> tuple[ImportResult, Told]:
    path = folder / "file.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    told = Told()
    start = import_products if kind == "products" else import_stock
    async with shop.serve() as url:
        return await start(path, Target(url, TOKEN), options, told), told


@pytest.mark.parametrize(
    ("text", "currency", "unit", "expected"),
    [
        ("2.55", "GBP", "major", 255),
        ("2.5", "GBP", "major", 250),
        ("2", "GBP", "major", 200),
        ("2.5500", "GBP", "major", 255),
        ("0", "USD", "major", 0),
        ("1200", "JPY", "major", 1200),
        ("1.234", "KWD", "major", 1234),
        ("3500", "USD", "minor", 3500),
        ("999999999999", "USD", "minor", 999999999999),
        ("2.555", "GBP", "major", "price 2.555 is finer than GBP's smallest unit (2 decimals)"),
        ("1200.5", "JPY", "major", "price 1200.5 is finer than JPY's smallest unit (0 decimals)"),
        ("", "GBP", "major", "price is missing"),
        ("-2.55", "GBP", "major", "price -2.55 is negative"),
        ("-3", "GBP", "minor", "price -3 is negative"),
        ("2,55", "GBP", "major", "price '2,55' is not a plain decimal number"),
        ("1e3", "GBP", "major", "price '1e3' is not a plain decimal number"),
        ("NaN", "GBP", "major", "price 'NaN' is not a plain decimal number"),
        ("٣", "GBP", "minor", "price '٣' is not a whole number of minor units"),
        ("35.00", "USD", "minor", "'35.00' is not a whole number of minor units; is it --price-unit major?"),
        ("5", "ZZZ", "minor", "'ZZZ' is no ISO 4217 currency"),
    ],
)
def test_prices_are_exact_or_refused(text: str, currency: str, unit: Any, expected: int | str) -> None:
    """A price is read with its currency's own digits; what would need rounding is a bad row."""
    if isinstance(expected, int):
        assert price_to_minor(text, currency, unit) == expected
    else:
        with pytest.raises(InvalidFieldError) as refused:
            price_to_minor(text, currency, unit)
        assert expected in str(refused.value)


@given(st.integers(0, 10**12 - 1), st.sampled_from(["USD", "JPY", "KWD", "EUR"]))
def test_every_amount_survives_its_major_form(amount: int, currency: str) -> None:
    """Writing an amount in major units and reading it gives the same amount, to the last digit."""
    text = f"{Decimal(amount).scaleb(-currency_digits(currency)):f}"
    assert price_to_minor(text, currency, "major") == amount


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sku", "'sku' is not of the form"),
        ("sku=", "'sku=' is not of the form"),
        ("colour=c", "there is no column 'colour'; there are sku, title, price"),
        ("sku=a,sku=b", "'sku' is given twice"),
    ],
)
def test_a_wrong_mapping_is_named(text: str, said: str) -> None:
    """What is wrong with --map is said in its own words."""
    with pytest.raises(ImportFailedError, match=said):
        parse_mapping(text)


def test_a_mapping_is_read() -> None:
    """Pairs, with spaces and a comma too many forgiven."""
    assert parse_mapping("sku=id, price=unit price,") == {"sku": "id", "price": "unit price"}


async def test_a_flower_shop_lands_and_lands_again_unchanged(tmp_path: Path) -> None:
    """A byte order mark, quoted commas and line breaks are no trouble; the second import changes nothing."""
    content = (
        "\ufeffid,title,price,image_url\r\n"
        "bouquet_roses,Bouquet of Red Roses,3500,https://example.com/roses.jpg\r\n"
        'pot,"Pot, ceramic\r\n(large)",1500,https://example.com/pot.jpg\r\n'
    )
    shop = FakeShop()
    result, told = await run(shop, content, tmp_path, FLOWERS)
    assert (result.landed, result.exit_code, told.bad, told.notes) == ({"created": 2}, 0, [], [])
    assert shop.products == {
        "bouquet_roses": {"sku": "bouquet_roses", "title": "Bouquet of Red Roses", "prices": {"USD": 3500}},
        "pot": {"sku": "pot", "title": "Pot, ceramic (large)", "prices": {"USD": 1500}},
    }
    result, _ = await run(shop, content, tmp_path, FLOWERS)
    assert result.landed == {"unchanged": 2}
    assert result.summary() == "2 unchanged"


async def test_real_invoice_lines_land_but_for_their_junk(tmp_path: Path) -> None:
    """Free, untitled and malformed rows are named by line; the last valid row of a SKU is what lands."""
    content = RETAIL_HEADER + (
        '536365,85123A,"WHITE ""HEART"" HOLDER",6,1/12/2010 08:26,2.55,17850,United Kingdom\n'
        "536414,22139,,56,1/12/2010 11:52,0,,United Kingdom\n"
        "536415,85123A,WHITE HEART HOLDER,1,1/12/2010 11:53,2.95,17850,United Kingdom\n"
        "536416,85123A,WHITE HEART HOLDER,1,1/12/2010 11:53,0,17850,United Kingdom\n"
        "536417,71053,WHITE LANTERN,1,1/12/2010 11:53,3.399,17850,United Kingdom\n"
        "536418,71053,WHITE LANTERN,1\n"
        "\n"
        "536419,71053,,1,1/12/2010 11:53,3.39,17850,United Kingdom\n"
        "536420,BANK CHARGES,Bank Charges,1,1/12/2010 11:53,15,,United Kingdom\n"
    )
    shop = FakeShop()
    result, told = await run(shop, content, tmp_path, RETAIL)
    assert told.bad == [
        (3, "price is 0; --allow-zero-price takes it"),
        (5, "price is 0; --allow-zero-price takes it"),
        (6, "price 3.399 is finer than GBP's smallest unit (2 decimals)"),
        (7, "it has 4 fields, the header has 8"),
        (9, "title is missing"),
    ]
    assert {sku: product["prices"] for sku, product in shop.products.items()} == {
        "85123A": {"GBP": 295},
        "BANK CHARGES": {"GBP": 1500},
    }
    assert (result.landed, result.superseded, result.bad, result.exit_code) == ({"created": 2}, 1, 5, 1)
    assert result.summary() == "2 created, 1 superseded by a later row; 5 bad rows"


async def test_stock_is_set_and_returns_are_named(tmp_path: Path) -> None:
    """Of each SKU the last valid quantity is set; negative ones are returns; the server's no is a bad row."""
    shop = FakeShop()
    shop.products = {"A": {}, "B": {}}
    content = "product_id,quantity\nA,5\nB,0\nA,-3\nA,7\nC,1\nB,1.5\n,4\nB,\n"
    options = ImportOptions(mapping={"sku": "product_id"})
    result, told = await run(shop, content, tmp_path, options, kind="stock")
    assert dict(shop.on_hand) == {"A": 7, "B": 0}
    assert told.bad == [
        (4, "quantity -3 is negative: a return, not stock"),
        (6, "there is no product C"),
        (7, "quantity '1.5' is not a whole number"),
        (8, "A SKU must not be empty"),
        (9, "quantity is missing"),
    ]
    assert (result.landed, result.superseded, result.exit_code) == ({"set": 2}, 1, 1)
    assert [len(body["items"]) for _, body in shop.batches] == [3]


async def test_atomic_lands_nothing_while_a_row_is_bad(tmp_path: Path) -> None:
    """With --atomic a row that this side or the server refuses keeps all the others out, each named once."""
    content = "sku,title,price_minor,currency\nA,Apple,100,USD\nB,,100,USD\nC,REFUSED,100,USD\n"
    shop = FakeShop()
    result, told = await run(shop, content, tmp_path, ImportOptions(atomic=True))
    assert shop.products == {}
    assert told.bad == [(3, "title is missing"), (4, "not here")]
    assert (result.landed, result.withheld, result.bad, result.exit_code) == ({}, 1, 2, 1)
    assert result.summary() == "nothing landed: 1 good rows withheld (--atomic); 2 bad rows"
    assert all(body["dry_run"] for _, body in shop.batches)


CARDS = "sku,title,price_minor,currency\nA,Apple,1,USD\nB,4111 1111 1111 1111,1,USD\nC,Cap,1,USD\nD,4111,1,USD\n"


@pytest.mark.parametrize(("atomic", "landed"), [(False, ["A", "C"]), (True, [])])
async def test_a_row_that_refuses_its_whole_batch_is_named_and_left_out(
    tmp_path: Path, atomic: bool, landed: list[str]
) -> None:
    """The server refuses a body that holds a card number; the rows that do not have one land all the same."""
    shop = FakeShop()
    result, told = await run(shop, CARDS, tmp_path, ImportOptions(atomic=atomic))
    assert told.bad == [(3, "title: Looks like a card number."), (5, "title: Looks like a card number.")]
    assert (list(shop.products), result.bad, result.exit_code) == (landed, 2, 1)
    assert [len(body["products"]) for _, body in shop.batches] == [4, 3, 2]


@pytest.mark.parametrize("path", ["$.reason", "$.products[7].title", "$"])
async def test_a_refusal_of_something_else_ends_the_import_in_one_sentence(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not about a row of the batch is told as it is, and ends in one full stop."""

    async def refuse(_client: OperatorClient, *_args: Any, **_options: Any) -> list[BatchResult]:
        raise TargetError("The server says no.", 422, (FieldProblem(path, "No."),))

    monkeypatch.setattr(OperatorClient, "put_products", refuse)
    with pytest.raises(ImportFailedError, match=r"^The server says no\.$"):
        await run(FakeShop(), CARDS, tmp_path, ImportOptions())


async def test_atomic_lands_everything_when_all_is_well(tmp_path: Path) -> None:
    """The dry run is followed by the real one."""
    shop = FakeShop()
    options = ImportOptions(atomic=True)
    result, _ = await run(shop, "sku,title,price_minor,currency\nA,Apple,100,USD\n", tmp_path, options)
    assert (list(shop.products), result.landed, result.exit_code) == (["A"], {"created": 1}, 0)
    assert [body.get("dry_run", False) for _, body in shop.batches] == [True, False]


async def test_many_rows_go_in_batches_of_a_thousand(tmp_path: Path) -> None:
    """The last row of a SKU wins across batches too, each SKU is sent once, and progress reaches the end."""
    lines = [f"S{n % 2500},Item,{n},USD\n" for n in range(3500)]
    content = "sku,title,price_minor,currency\n" + "".join(lines)
    shop = FakeShop()
    result, told = await run(shop, content, tmp_path, ImportOptions(allow_zero_price=True))
    sent = [product["sku"] for _, body in shop.batches for product in body["products"]]
    assert len(sent) == len(set(sent)) == 2500
    assert max(len(body["products"]) for _, body in shop.batches) == 1000
    assert shop.products["S7"]["prices"] == {"USD": 2507}
    assert shop.products["S1500"]["prices"] == {"USD": 1500}
    assert (result.landed, result.superseded) == ({"created": 2500}, 1000)
    assert told.read[-1] == (len(content), len(content), 2500)


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(-2, 9)), max_size=30))
def test_the_last_valid_row_of_each_sku_wins(tmp_path_factory: Any, entries: list[tuple[str, int]]) -> None:
    """For any mixture of good and bad rows: one row a SKU, its last valid one, and each bad row named."""
    path = tmp_path_factory.mktemp("rows") / "stock.csv"
    path.write_text("sku,quantity\n" + "".join(f"{sku},{units}\n" for sku, units in entries))
    with open_rows(path, "stock", ImportOptions()) as rows:
        judged = list(rows)
        superseded = rows.superseded
    good = [row for row in judged if isinstance(row, Row)]
    wanted = {sku: units for sku, units in entries if units >= 0}
    assert {row.sku: row.item["set"] for row in good} == wanted
    assert len(good) == len(wanted)
    assert len(judged) - len(good) == sum(units < 0 for _, units in entries)
    assert superseded == sum(units >= 0 for _, units in entries) - len(wanted)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",T,1,USD,,", "A SKU must not be empty"),
        (f"{'x' * 65},T,1,USD,,", "A SKU has at most 64 characters; this one has 65"),
        ("a\tb,T,1,USD,,", "A SKU has visible characters and plain spaces only"),
        ("A,\x01T,1,USD,,", "title has control characters"),
        ("A,T,1,,,", "currency is missing"),
        ("A,T,1,usd,,", "'usd' is no ISO 4217 currency"),
        ("A,T,1,USD,1.5,", "weight_g '1.5' is not a whole number of grams"),
        ('A,"T,1,USD,,', "not well-formed CSV"),
        ('A,"T"x,1,USD,,', "not well-formed CSV"),
        ("A,T,1,USD,,,", "it has 7 fields, the header has 6"),
    ],
)
async def test_a_bad_row_is_named_and_the_others_land(tmp_path: Path, row: str, reason: str) -> None:
    """Each kind of junk has its own reason, and keeps nobody else out."""
    header = "sku,title,price_minor,currency,weight_g,tax_category\n"
    shop = FakeShop()
    result, told = await run(shop, f"{header}B,Ball,5,EUR,120,toys\n{row}\n", tmp_path, ImportOptions())
    assert [line for line, _ in told.bad] == [3]
    assert reason in told.bad[0][1]
    ball = {"sku": "B", "title": "Ball", "prices": {"EUR": 5}, "weight_g": 120, "tax_category": "toys"}
    assert (list(shop.products.values()), result.bad) == ([ball], 1)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (b"", FLOWERS, "is empty: its first line must name the columns"),
        (b"\n\nA,B\n", FLOWERS, "is empty: its first line must name the columns"),
        (b"id,title\nA,B\n", FLOWERS, "no column price; it has: id, title"),
        (b"sku,name\nA,B\n", ImportOptions(currency="USD"), "no column title; it has: sku, name"),
        (b"sku;title;price_minor\n", ImportOptions(), "seem to be separated by semicolons"),
        (b"sku,title,price_minor\n", ImportOptions(), "say it with --currency"),
        (b"sku,title\n", ImportOptions(currency="USD"), "no column price_minor"),
        (b"sku,title,price_minor\n", ImportOptions(currency="EURO"), "--currency: 'EURO' is no ISO 4217"),
        (b"sku,sku,title,price_minor\n", ImportOptions(currency="USD"), "more than one column 'sku'"),
        (
            b"sku,title,price_minor\n",
            ImportOptions(currency="USD", price_unit="major"),
            "price_minor is in minor units",
        ),
        (
            b"sku,title,a,b\n",
            ImportOptions(currency="USD", mapping={"price": "a", "price_minor": "b"}),
            "price or price_minor, not both",
        ),
        (b"sku,title,n\n", ImportOptions(currency="USD", mapping={"quantity": "n"}), "quantity has no place"),
        (b"sku\0,title\n", FLOWERS, "is not text: it has zero bytes"),
        (b"id,title,price\nA,\x81\xff,5\n", FLOWERS, "neither UTF-8 (byte 0x81 in line 2) nor Windows-1252"),
        (b"id,title,price\nA,B,5\n", ImportOptions(encoding="klingon"), "there is no encoding 'klingon'"),
        (b"id,title,price\nA,\xe9,5\n", ImportOptions(encoding="utf-8"), "is not utf-8: byte 0xe9 in line 2"),
    ],
)
async def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, content: bytes, options: ImportOptions, said: str
) -> None:
    """Nothing is sent for a file that makes no sense, and the reason names what was found."""
    shop = FakeShop()
    with pytest.raises(ImportFailedError) as failed:
        await run(shop, content, tmp_path, options)
    assert said in str(failed.value)
    assert shop.batches == []


async def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    """A wrong path is named."""
    with pytest.raises(ImportFailedError, match=r"none\.csv is not a file"):
        await import_products(tmp_path / "none.csv", Target("http://shop", TOKEN), FLOWERS, Told())


@pytest.mark.parametrize(
    ("encoding", "options", "notes"),
    [
        ("utf-8", FLOWERS, 0),
        ("utf-8-sig", FLOWERS, 0),
        ("utf-16", FLOWERS, 0),
        ("latin-1", FLOWERS, 1),
        ("cp1252", ImportOptions(FLOWERS.mapping, currency="USD", encoding="cp1252"), 0),
    ],
)
async def test_spreadsheets_encodings_are_understood(
    tmp_path: Path, encoding: str, options: ImportOptions, notes: int
) -> None:
    """The title is the same whichever way the file was saved; a guess is said aloud."""
    shop = FakeShop()
    content = "id,title,price\ncafe,Café crème,300\n".encode(encoding)
    _, told = await run(shop, content, tmp_path, options)
    assert shop.products["cafe"]["title"] == "Café crème"
    assert len(told.notes) == notes


async def test_an_unreachable_server_could_not_run(tmp_path: Path) -> None:
    """No server, no import: a sentence, soon, and not a traceback."""
    path = tmp_path / "file.csv"
    path.write_text("id,title,price\nA,B,5\n")
    with pytest.raises(ImportFailedError, match="Is the server up"):
        await import_products(path, Target("http://127.0.0.1:9", TOKEN), FLOWERS, Told())


async def test_a_server_that_goes_away_says_what_had_landed(tmp_path: Path) -> None:
    """An import cut short tells how far it came and that running it again is safe."""
    path = tmp_path / "file.csv"
    path.write_text("id,title,price\n" + "".join(f"S{n},Item,5\n" for n in range(1500)))
    shop = FakeShop()

    class Saboteur(Told):
        def progress(self, read_bytes: int, total_bytes: int, rows: int) -> None:
            shop.token = "another"

    async with shop.serve() as url:
        with pytest.raises(ImportFailedError, match=r"1,000 rows had landed; running it again is safe"):
            await import_products(path, Target(url, TOKEN), FLOWERS, Saboteur())


def test_the_console_report_names_bad_rows_as_they_are() -> None:
    """One line each on standard error, brackets untouched by markup, and no bar when that is no terminal."""
    stream = io.StringIO()
    with redirect_stderr(stream), ConsoleReport("Products") as report:
        report.note("read as Windows-1252")
        report.bad_row(BadRow(7, "price '[red]' is not a plain decimal number"))
        report.progress(5, 10, 1)
    assert stream.getvalue() == ("note: read as Windows-1252\nline 7: price '[red]' is not a plain decimal number\n")
