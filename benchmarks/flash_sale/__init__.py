"""The flash sale: many buyers, few units, over real HTTP, and the proof that each unit was sold once.

A pure client of the HTTP contract. `run_sale` holds one sale; `print_result` and `write_reports` tell of it.
Called by `lastunit flash-sale`.
"""

from benchmarks.flash_sale.config import SaleConfig, SaleFailedError
from benchmarks.flash_sale.report import print_result, write_reports
from benchmarks.flash_sale.run import SaleResult, run_sale

__all__ = ["SaleConfig", "SaleFailedError", "SaleResult", "print_result", "run_sale", "write_reports"]
