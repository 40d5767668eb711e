"""What the process that incarnations are forked from imports last: what they all have is left out of collection.

An actor collects once when it begins to serve; to walk all that is imported would copy every page of it.
"""

from __future__ import annotations

import gc

import tests.support.cut_process
import tests.support.incarnation_process  # noqa: F401

gc.collect()
gc.freeze()
