"""`lastunit products import` and `lastunit stock import`: CSV files into a shop, as a pure client of the API.

`run` sends what `rows` has judged; `columns` and `fields` say what a row must be. Called by the command line.
"""

from imports.columns import ImportFailedError, ImportOptions, parse_mapping
from imports.run import ConsoleReport, ImportResult, Report, import_products, import_stock

__all__ = [
    "ConsoleReport",
    "ImportFailedError",
    "ImportOptions",
    "ImportResult",
    "Report",
    "import_products",
    "import_stock",
    "parse_mapping",
]
