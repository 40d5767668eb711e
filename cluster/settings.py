"""Every setting of the shop, from ``LASTUNIT_*`` variables or ``lastunit.toml``; the environment wins.

Owns names, defaults and limits. A wrong value stops the start with a sentence that names it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from domain.cart_model import CartPolicy
from domain.checkout_model import Policy
from gateways.sandbox import parse_latency_ms


class SettingsError(Exception):
    """A setting is wrong. The message is one sentence a setting, each naming it."""


class Settings(BaseSettings):
    """Times in seconds (``_s``) or milliseconds (``_ms``), amounts in minor units (``_minor``)."""

    model_config = SettingsConfigDict(env_prefix="LASTUNIT_", toml_file="lastunit.toml", extra="forbid")

    mode: Literal["development", "production"] = Field(
        "development", description="Production refuses HS256 and the sandbox's tools."
    )
    currency: str = Field("USD", pattern="^[A-Z]{3}$", description="Currency of carts that name none (ISO 4217).")
    hold_ttl_s: int = Field(
        900, ge=1, le=86_400, description="How long a checkout holds stock after the buyer's last action."
    )
    cart_idle_s: int = Field(1800, ge=1, le=30 * 86_400, description="Idle seconds after which a cart expires.")
    payment_attempts: int = Field(5, ge=1, le=100, description="Declines after which a checkout is canceled.")
    buyer_action_s: int = Field(
        3600, ge=1, le=86_400, description="How long a payment waits for its buyer (3-D Secure, redirect)."
    )
    review_above_minor: int | None = Field(None, ge=0, description="Orders above this total wait for an operator.")
    gateway_timeout_s: float = Field(
        8.0, gt=0, le=80, description="After so long without an answer a gateway call's outcome is unknown."
    )
    sandbox_latency_ms: str = Field("0", description="Latency of the sandbox gateway: one number or LOW-HIGH.")
    rate_limits: Literal["on", "off"] | None = Field(
        None, description="Per-caller limits; by default on in production only."
    )
    max_body_bytes: int = Field(1_048_576, ge=1024, le=16_777_216, description="Largest request body.")
    max_queue: int = Field(20_000, ge=100, description="Commands an actor holds before it refuses new work as busy.")
    stock_shards: int = Field(1, ge=1, le=256, description="Stock actors of a new installation.")
    cart_shards: int = Field(1, ge=1, le=256, description="Cart actors of a new installation.")
    checkout_shards: int = Field(1, ge=1, le=256, description="Checkout coordinators of a new installation.")
    api_workers: int = Field(1, ge=1, le=64, description="Processes that take HTTP requests.")
    jwks_url: str | None = Field(None, description="Keys of the identity provider (production).")
    jwt_issuer: str | None = Field(None, description="Required issuer of JWTs (production).")
    jwt_audience: str | None = Field(None, description="Required audience of JWTs (production).")
    master_key_file: Path | None = Field(None, description="Where the master key is; by default in the data directory.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @field_validator("sandbox_latency_ms")
    @classmethod
    def _latency(cls, text: str) -> str:
        parse_latency_ms(text)
        return text

    @property
    def rate_limits_on(self) -> bool:
        return self.rate_limits == "on" or (self.rate_limits is None and self.mode == "production")

    def policy(self) -> Policy:
        """What the saga decides by."""
        return Policy(
            hold_ttl_ms=self.hold_ttl_s * 1000,
            cart_idle_ms=self.cart_idle_s * 1000,
            payment_attempts=self.payment_attempts,
            buyer_action_ms=self.buyer_action_s * 1000,
            review_above_minor=self.review_above_minor,
        )

    def cart_policy(self) -> CartPolicy:
        return CartPolicy(idle_ms=self.cart_idle_s * 1000)


def load_settings(**given: object) -> Settings:
    """The settings, ``given`` first. Raises `SettingsError`."""
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(item["loc"], item["msg"]) for item in error.errors())) from error
    if settings.mode == "production":
        missing = [name for name in ("jwks_url", "jwt_issuer", "jwt_audience") if getattr(settings, name) is None]
        if missing:
            names = ", ".join(f"LASTUNIT_{name.upper()}" for name in missing)
            raise SettingsError(f"Production mode needs {names}: who may call is told by your identity provider.")
    return settings


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    name = f"LASTUNIT_{str(location[0]).upper()}" if location else "The settings"
    return f"{name}: {message}."
