"""How an ablation takes something out of the code: a name, or a phrase in a function's source.

Promises to put back what it took when the stack unwinds. A phrase that is not there once fails at once.
"""

from __future__ import annotations

import inspect
import textwrap
from contextlib import ExitStack
from types import ModuleType
from typing import Any


def replace(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    before = inspect.getattr_static(owner, name)
    setattr(owner, name, value)
    stack.callback(setattr, owner, name, before)


def edit(stack: ExitStack, module: ModuleType, path: str, *edits: tuple[str, str]) -> None:
    """Compile a function anew with phrases of its source replaced."""
    *owners, name = path.split(".")
    owner: Any = module
    for part in owners:
        owner = getattr(owner, part)
    source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    for old, new in edits:
        assert source.count(old) == 1, f"{module.__name__}.{path} has {source.count(old)} times {old!r}"
        source = source.replace(old, new)
    names: dict[str, Any] = {}
    exec(compile("from __future__ import annotations\n" + source, f"<{path} without>", "exec"), vars(module), names)
    replace(stack, owner, name, names[name])
