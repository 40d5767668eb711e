"""The demo shop's goods: thirty products with prices, stock, shipping and taxes, and their way into a shop.

Owns the files in `data/` (their sources: `NOTICE.md`). Promises the same content at each call. `loader`
writes them through the HTTP API alone; the pages read `products()`. Never knows a server or the engine.
"""

from __future__ import annotations

from demo.catalogue import products, shipping_table, stock_levels, tax_table
from demo.loader import load_demo

__all__ = ["load_demo", "products", "shipping_table", "stock_levels", "tax_table"]
