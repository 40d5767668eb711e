"""The project's own files: what is locked, and what imports what where the import linter is blind."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
MODULES = {path.stem for path in ROOT.glob("*.py")}

# Assembled, so that this file does not name them itself.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("proxy", "golang", "org"),
        ("deb", "debian", "org"),
    )
]

# What the domain must be given as an argument instead: time, chance, and the world.
IMPURE = {
    "asyncio", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "shutil",
    "socket", "sqlite3", "subprocess", "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip


def locked(name: str) -> dict[str, str]:
    """The requirements of one file: what is written before the hashes, by the package's name."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    return {re.split(r"[=\[;\s]", line)[0]: line for line in lines}


def imported_modules(path: Path) -> set[str]:
    """The top-level names of every absolute import in a file, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


def project_files() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name == ".ci" or not name.startswith((".", "__"))]
        yield from (Path(folder, name) for name in files)


def modules_after_importing(package: str) -> set[str]:
    """The top-level names a fresh interpreter has loaded after importing all of a package."""
    code = (
        "import importlib, pkgutil, sys\n"
        "before = set(sys.modules)\n"
        f"package = importlib.import_module({package!r})\n"
        f"for found in pkgutil.walk_packages(package.__path__, {package!r} + '.'):\n"
        "    importlib.import_module(found.name)\n"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    """pip can install nothing but the very files that were locked, from wherever the machine gets them."""
    lines = locked(name)
    assert len(lines) > 50
    for line in lines.values():
        assert re.match(r"[a-z0-9-]+(\[[a-z,]+\])?==[\w.]+( ;.*?)?( +--hash=sha256:[0-9a-f]{64})+ *$", line), line


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_what_is_asked_for_is_locked(name: str) -> None:
    """A name added to a .in file without `make lock` would be missing at run time."""
    text = (ROOT / "requirements" / f"{name}.in").read_text()
    asked = re.findall(r"^[a-z][a-z0-9-]*", text, re.MULTILINE)
    assert asked
    assert set(asked) <= set(locked(name))


def test_the_tests_run_on_what_is_shipped() -> None:
    """dev.txt has all of runtime.txt, at the same versions and hashes."""
    runtime, dev = locked("runtime"), locked("dev")
    assert {name: dev.get(name) for name in runtime} == runtime


def test_no_file_names_a_registry() -> None:
    """Where packages come from is the machine's business."""
    hosts = re.compile("|".join(map(re.escape, REGISTRY_HOSTS)).encode())
    assert [str(path) for path in project_files() if hosts.search(path.read_bytes())] == []


def test_every_package_and_module_is_installed_and_linted() -> None:
    """One that is forgotten in pyproject.toml would work in the checkout only."""
    tools = PROJECT["tool"]
    setuptools = tools["setuptools"]
    assert {pattern.rstrip("*") for pattern in setuptools["packages"]["find"]["include"]} == PACKAGES
    assert set(setuptools["py-modules"]) == MODULES
    assert set(tools["importlinter"]["root_packages"]) == PACKAGES
    assert {Path(name).stem for name in tools["mypy"]["files"]} == PACKAGES | MODULES | {"tests"}


def test_the_domain_is_pure() -> None:
    """It imports the pure part of the standard library, msgspec and itself, within functions too."""
    allowed = (sys.stdlib_module_names - IMPURE) | {"domain", "msgspec"}
    assert {path.name: imported_modules(path) - allowed for path in (ROOT / "domain").rglob("*.py")} == {
        path.name: set() for path in (ROOT / "domain").rglob("*.py")
    }


def test_importing_the_domain_loads_nothing_heavy() -> None:
    """Neither Ray nor a database driver comes along by a detour."""
    of_msgspec = {"msgspec", "typing_extensions"}
    assert modules_after_importing("domain") - sys.stdlib_module_names - of_msgspec == {"domain"}


@pytest.mark.parametrize("package", ["gateways", "persistence", "actors"])
def test_what_lies_below_the_cluster_loads_without_ray(package: str) -> None:
    """An actor runs in a test, or in a simulation, where there is no Ray."""
    loaded = modules_after_importing(package)
    assert package in loaded
    assert "ray" not in loaded


def test_only_the_cluster_imports_ray() -> None:
    """The modules outside every package too, which the import linter cannot see."""
    importing = {
        path.relative_to(ROOT).parts[0]
        for path in project_files()
        if path.suffix == ".py" and "ray" in imported_modules(path)
    }
    assert importing - {"tests"} <= {"cluster"}
