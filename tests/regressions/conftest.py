"""The shared server's client, as the integration tests have it, for the cases that are bugs of HTTP."""

from tests.integration.conftest import shop

__all__ = ["shop"]
