"""Keys and ciphers: sealing personal data, hashing it for look-ups, deriving guest tokens.

Owns the master key (kept in a file, outside the database) and what follows from it. Promises that whatever
was sealed under a data key is beyond reach once that key is gone. Is told plaintext bytes and field names,
never what they mean. Never logs, pickles or prints a key or a plaintext. The API's edge and the mail relay
call it; actors and journals only ever see its ciphertext and hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import unicodedata
from base64 import urlsafe_b64encode
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
GUEST_PREFIX = "lut_"

_NONCE_BYTES = 12
_KEY_ID_BYTES = 4
_SEALED_VERSION = 1
_HEADER_BYTES = 1 + _KEY_ID_BYTES + _NONCE_BYTES
_HASH_CHARS = 32
_MAC_CHARS = 32  # base64url of 24 bytes: 192 bits


class KeyFileError(Exception):
    """A key file is there but cannot be used; the text says which file and what to do."""


class TamperedError(Exception):
    """A sealed value is damaged, or was moved from another person or field."""


class ErasedError(Exception):
    """The data key of a sealed value is gone for good; show `ERASED` in its place."""


ERASED = "[erased]"


class _Secret:
    """Keys stay in the process that loaded them: neither pickled into a message nor printed into a log."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} must not leave its process")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def load_or_create_secret(path: Path, label: str) -> bytes:
    """The 32 bytes in the key file `path`, made at first use (mode 0600, one line: label, version, hex).

    Several processes may race to create it: all get the same bytes. KeyFileError: not such a file.
    """
    if not path.exists():
        _create_secret(path, label)
    words = path.read_bytes().split()
    try:
        found, version, digits = (word.decode("ascii") for word in words)
        secret = bytes.fromhex(digits)
    except ValueError:
        found, version, secret = "", "", b""
    if (found, version, len(secret)) != (label, "v1", KEY_BYTES):
        raise KeyFileError(
            f"{path} does not hold a {label}: put the original file back. "
            "Deleting it makes everything that was sealed under it unreadable."
        )
    return secret


def _create_secret(path: Path, label: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, f"{label} v1 {os.urandom(KEY_BYTES).hex()}\n".encode())
        os.fsync(file)
        # A link fails where a rename would replace: the first of several creators wins, whole or not at all.
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        os.close(file)
        draft.unlink()
    # Rows sealed under the key may be durable at once; so must be the name of its file.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class DataKey(_Secret):
    """The key of one subject (a customer or a guest), under which that person's fields are sealed.

    A sealed value is version(1) ‖ key id(4) ‖ nonce(12) ‖ ciphertext and tag(16): 33 bytes more than the
    plaintext. Subject and field name are authenticated: a value cannot be moved to another person or field.
    """

    # Only the bytes are kept: a ready cipher weighs 2.4 kB, and the key ring caches tens of thousands.
    __slots__ = ("_header", "_secret", "subject")

    def __init__(self, subject: str, secret: bytes) -> None:
        self.subject = subject
        self._secret = secret
        key_id = hashlib.blake2b(secret, digest_size=_KEY_ID_BYTES, person=b"key-id").digest()
        self._header = bytes((_SEALED_VERSION,)) + key_id

    @classmethod
    def generate(cls, subject: str) -> DataKey:
        """A new random key."""
        return cls(subject, os.urandom(KEY_BYTES))

    def seal(self, field: str, plaintext: bytes) -> bytes:
        """The plaintext sealed for this subject and field; twice the same gives two different values."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._header + nonce + AESGCM(self._secret).encrypt(nonce, plaintext, self._bound_to(field))

    def open(self, field: str, sealed: bytes) -> bytes:
        """The plaintext again.

        ErasedError: sealed under a key that was deleted since. TamperedError: not what was sealed here.
        """
        if sealed[:1] != self._header[:1] or len(sealed) < _HEADER_BYTES:
            raise TamperedError(f"{field} is not a sealed value of version {_SEALED_VERSION}")
        # The key id tells a person who came back after erasure from a damaged row.
        if sealed[1 : 1 + _KEY_ID_BYTES] != self._header[1:]:
            raise ErasedError(field)
        nonce = sealed[1 + _KEY_ID_BYTES : _HEADER_BYTES]
        try:
            return AESGCM(self._secret).decrypt(nonce, sealed[_HEADER_BYTES:], self._bound_to(field))
        except InvalidTag:
            raise TamperedError(f"{field} was changed or moved after it was sealed") from None

    def _bound_to(self, field: str) -> bytes:
        return f"{self.subject}\x1f{field}".encode()


class MasterKey(_Secret):
    """The one key kept outside the database: wraps data keys; seeds look-up hashes and guest tokens."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes, not {len(secret)}")
        self._secret = secret
        self._hash_keys: dict[str, bytes] = {}
        self._wrapper = AESGCM(self.derive("wrap data keys"))

    @classmethod
    def load_or_create(cls, path: Path) -> MasterKey:
        """The key in that file, made at first use. KeyFileError: the file holds something else."""
        return cls(load_or_create_secret(path, "lastunit-master-key"))

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose, always the same (HKDF-SHA256)."""
        info = f"lastunit v1 {purpose}".encode()
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(self._secret)

    def wrap(self, key: DataKey) -> bytes:
        """The data key as it may lie in the database: version(1) ‖ nonce(12) ‖ ciphertext and tag(48)."""
        nonce = os.urandom(_NONCE_BYTES)
        wrapped = self._wrapper.encrypt(nonce, key._secret, key.subject.encode())
        return bytes((_SEALED_VERSION,)) + nonce + wrapped

    def unwrap(self, subject: str, wrapped: bytes) -> DataKey:
        """The data key again. TamperedError: not wrapped by this master key for this subject."""
        nonce, ciphertext = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
        try:
            if wrapped[:1] != bytes((_SEALED_VERSION,)):
                raise InvalidTag
            return DataKey(subject, self._wrapper.decrypt(nonce, ciphertext, subject.encode()))
        except (InvalidTag, ValueError):
            raise TamperedError(
                f"the data key of {subject} was not wrapped by this master key: is it the right key file?"
            ) from None

    def keyed_hash(self, purpose: str, value: str) -> str:
        """32 hex characters that find an equal value again and tell nothing without the key."""
        key = self._hash_keys.get(purpose)
        if key is None:
            key = self._hash_keys[purpose] = self.derive(f"hash {purpose}")
        return hmac.digest(key, value.encode(), "sha256").hex()[:_HASH_CHARS]

    def email_hash(self, email: str) -> str:
        """The look-up hash of an address: the same however its letters are cased or composed."""
        return self.keyed_hash("email", unicodedata.normalize("NFC", email.strip().casefold()))

    def owner_of_customer(self, sub: str) -> str:
        """Who a customer is to the engine: `c:` and 32 hex characters."""
        return "c:" + self.keyed_hash("customer", sub)

    def guest_token(self, root_id: str) -> str:
        """The secret that opens what a guest created, always the same for one root (a cart or checkout id).

        `lut_<root id>_<MAC>`: it names its root, so that a made-up token is known for one without a look-up.
        """
        mac = urlsafe_b64encode(hmac.digest(self._token_key, root_id.encode(), "sha256")[:24])
        return f"{GUEST_PREFIX}{root_id}_{mac.decode()}"

    def is_guest_token(self, token: str) -> bool:
        """Whether the token was derived here (not whether what it opens still exists)."""
        root_id = token[len(GUEST_PREFIX) : -_MAC_CHARS - 1]
        if not root_id or not token.isascii():
            return False
        return hmac.compare_digest(token, self.guest_token(root_id))

    @cached_property
    def _token_key(self) -> bytes:
        return self.derive("guest token")


def owner_of_token(token: str) -> str:
    """Who a guest is to the engine: `g:` and 32 hex characters. Tell made-up tokens apart beforehand."""
    return "g:" + hashlib.sha256(token.encode()).hexdigest()[:_HASH_CHARS]
