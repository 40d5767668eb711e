"""The command line's own part: what it refuses before it calls anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import pytest
from typer.testing import CliRunner

from cli import app


def token(*arguments: str) -> tuple[int, dict[str, Any] | str]:
    """The exit code of `lastunit token`, and the claims printed or the complaint."""
    result = CliRunner().invoke(app, ["token", *arguments])
    if result.exit_code:
        return result.exit_code, result.stderr
    return 0, jwt.decode(result.stdout.strip(), options={"verify_signature": False})


@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_a_customer_has_a_name(tmp_path: Path, name: str) -> None:
    """A blank one, say of an unset variable, makes no token, and least of all one for `operator`."""
    code, said = token("--customer", name, "--data-dir", str(tmp_path))
    assert (code, said) == (2, "A customer's name is not blank.\n")


@pytest.mark.parametrize(
    ("arguments", "subject", "scoped"),
    [(("--customer", "ada"), "ada", False), (("--ops",), "operator", True)],
)
def test_a_token_is_for_whom_it_was_asked(
    tmp_path: Path, arguments: tuple[str, ...], subject: str, scoped: bool
) -> None:
    """Only `--ops` gives the operator's scope."""
    code, claims = token(*arguments, "--data-dir", str(tmp_path))
    assert code == 0
    assert isinstance(claims, dict)
    assert (claims["sub"], "scope" in claims) == (subject, scoped)


@pytest.mark.parametrize("arguments", [(), ("--ops", "--customer", "ada"), ("--ops", "--customer", "")])
def test_a_token_is_for_one_of_both(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Neither and both are refused, however blank."""
    assert token(*arguments, "--data-dir", str(tmp_path)) == (2, "Give either --customer NAME or --ops.\n")
