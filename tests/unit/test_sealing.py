"""Sealing: what is sealed opens only for its person and field, under its key, unchanged."""

from __future__ import annotations

import pickle
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.sealing import (
    DataKey,
    ErasedError,
    KeyFileError,
    MasterKey,
    TamperedError,
    load_or_create_secret,
    owner_of_token,
)

MASTER = MasterKey(bytes(range(32)))
OTHER_MASTER = MasterKey(bytes(range(1, 33)))
KEY = DataKey("c:ada", bytes(32))


@given(plaintext=st.binary(max_size=2_000), field=st.text(max_size=30), subject=st.text(max_size=40))
def test_what_is_sealed_opens_again(plaintext: bytes, field: str, subject: str) -> None:
    """Any bytes come back; the sealed form is 33 bytes longer and never the same twice."""
    key = DataKey.generate(subject)
    sealed = key.seal(field, plaintext)
    assert key.open(field, sealed) == plaintext
    assert len(sealed) == len(plaintext) + 33
    assert key.seal(field, plaintext) != sealed


@given(plaintext=st.binary(min_size=8, max_size=200))
def test_a_sealed_value_does_not_show_its_plaintext(plaintext: bytes) -> None:
    """The plaintext is nowhere in the sealed bytes."""
    assert plaintext not in KEY.seal("email", plaintext)


@given(data=st.data(), plaintext=st.binary(max_size=100))
def test_any_changed_or_missing_byte_is_noticed(data: st.DataObject, plaintext: bytes) -> None:
    """A bit flipped or bytes cut anywhere never open as something else."""
    sealed = KEY.seal("email", plaintext)
    position = data.draw(st.integers(0, len(sealed) - 1))
    flipped = bytearray(sealed)
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(flipped), sealed[:position]):
        with pytest.raises((TamperedError, ErasedError)):
            KEY.open("email", damaged)


@pytest.mark.parametrize(
    ("opener", "field"),
    [(KEY, "name"), (DataKey("c:eve", bytes(32)), "email"), (DataKey("c:ad", bytes(32)), "aemail")],
)
def test_a_sealed_value_cannot_be_moved(opener: DataKey, field: str) -> None:
    """Neither to another field nor to another person, even under the same key bytes."""
    with pytest.raises(TamperedError):
        opener.open(field, KEY.seal("email", b"ada@example.com"))


def test_a_value_of_a_deleted_key_is_erased_not_damaged() -> None:
    """A person who comes back after erasure has a new key, which calls the old values erased."""
    sealed = KEY.seal("email", b"ada@example.com")
    with pytest.raises(ErasedError):
        DataKey.generate("c:ada").open("email", sealed)


def test_a_wrapped_key_opens_what_the_key_sealed() -> None:
    """Wrapping and unwrapping lose nothing, and the wrapped form hides the key."""
    wrapped = MASTER.wrap(KEY)
    assert bytes(32) not in wrapped
    assert MASTER.unwrap("c:ada", wrapped).open("email", KEY.seal("email", b"x")) == b"x"


@pytest.mark.parametrize(
    ("master", "subject", "change"),
    [
        (OTHER_MASTER, "c:ada", lambda wrapped: wrapped),
        (MASTER, "c:eve", lambda wrapped: wrapped),
        (MASTER, "c:ada", lambda wrapped: b"\x02" + wrapped[1:]),
        (MASTER, "c:ada", lambda wrapped: wrapped[:-1]),
        (MASTER, "c:ada", lambda wrapped: b""),
    ],
    ids=["another master key", "another subject", "another version", "cut", "empty"],
)
def test_a_wrapped_key_fits_one_master_key_and_one_person(master, subject, change) -> None:
    """Anything else is refused with a name, never half-accepted."""
    with pytest.raises(TamperedError, match=subject):
        master.unwrap(subject, change(MASTER.wrap(KEY)))


@pytest.mark.parametrize("secret", [MASTER, KEY], ids=["master key", "data key"])
def test_keys_stay_in_their_process(secret: object) -> None:
    """A key cannot be pickled into an actor's argument, and printing it shows nothing."""
    with pytest.raises(TypeError, match="must not leave"):
        pickle.dumps(secret)
    assert repr(secret) in ("<MasterKey>", "<DataKey>")


def test_the_master_key_file_is_made_once_and_kept(tmp_path) -> None:
    """Mode 0600, in a directory that is made if need be; the second start has the same key."""
    path = tmp_path / "keys" / "master.key"
    first = MasterKey.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert MasterKey.load_or_create(path).derive("x") == first.derive("x")
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


def test_racing_creators_get_one_secret(tmp_path) -> None:
    """Processes that start at once all read the bytes that won."""
    path = tmp_path / "secret"
    with ThreadPoolExecutor(16) as pool:
        secrets = set(pool.map(lambda _: load_or_create_secret(path, "test"), range(64)))
    assert len(secrets) == 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "lastunit-master-key v1 beef",
        "another v1 " + "00" * 32,
        "lastunit-master-key v2 " + "00" * 32,
        "\xff",
    ],
)
def test_a_file_that_is_no_key_file_is_refused_and_left_alone(tmp_path, content: str) -> None:
    """It may be a damaged key: overwriting it would erase everybody."""
    path = tmp_path / "master.key"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(KeyFileError, match=r"master\.key does not hold a lastunit-master-key"):
        MasterKey.load_or_create(path)
    assert path.read_text(encoding="latin-1") == content


def test_derived_secrets_differ_by_purpose_and_key() -> None:
    """One purpose's secret says nothing about another's."""
    assert len({MASTER.derive("a"), MASTER.derive("b"), OTHER_MASTER.derive("a")}) == 3
    assert MASTER.derive("a") == MasterKey(bytes(range(32))).derive("a")


@pytest.mark.parametrize("spelling", ["Ada@Example.com", " ada@example.com ", "ADA@EXAMPLE.COM"])
def test_an_email_is_found_however_it_is_cased(spelling: str) -> None:
    """Case and outer spaces do not matter; another address or another key gives another hash."""
    assert MASTER.email_hash(spelling) == MASTER.email_hash("ada@example.com")
    assert MASTER.email_hash(spelling) != MASTER.email_hash("eve@example.com")
    assert MASTER.email_hash(spelling) != OTHER_MASTER.email_hash(spelling)


def test_an_email_is_found_however_its_letters_are_composed() -> None:
    """An umlaut of one code point and of two are one address."""
    assert MASTER.email_hash("m\u00fcller@example.com") == MASTER.email_hash("mu\u0308ller@example.com")


def test_owners_of_customers_are_hashes_of_their_own_purpose() -> None:
    """The owner does not show the subject, and an e-mail hash is not an owner."""
    owner = MASTER.owner_of_customer("ada")
    assert owner.startswith("c:")
    assert len(owner) == 34
    assert owner[2:] != MASTER.keyed_hash("email", "ada")


@given(root=st.text("0123456789abcdefghjkmnpqrstvwxyz_", min_size=1, max_size=31))
def test_a_guest_token_is_recognized_and_always_the_same(root: str) -> None:
    """A token made here is known without a look-up, and is never stored."""
    token = MASTER.guest_token(root)
    assert token == MASTER.guest_token(root)
    assert MASTER.is_guest_token(token)
    assert not OTHER_MASTER.is_guest_token(token)


@given(token=st.text(max_size=100))
def test_a_made_up_guest_token_is_refused(token: str) -> None:
    """Whatever a caller makes up, with or without the right beginning."""
    assert not MASTER.is_guest_token(token)
    assert not MASTER.is_guest_token("lut_cart_01_" + token)


def test_tokens_of_two_roots_have_two_owners() -> None:
    """What one token opens, the other does not."""
    first, second = MASTER.guest_token("cart_1"), MASTER.guest_token("cart_2")
    assert owner_of_token(first) != owner_of_token(second)
    assert owner_of_token(first).startswith("g:")
    assert len(owner_of_token(first)) == 34
