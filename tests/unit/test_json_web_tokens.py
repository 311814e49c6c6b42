"""Access tokens: what is accepted was signed here, for this use, and is not over."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.adapters.json_web_tokens import JsonWebTokens
from arena_core.application.signing import Claims
from arena_core.domain.errors import Flaw, Unauthenticated
from arena_core.domain.ids import SignInId

KEY = b"k" * 32
SIGNER = JsonWebTokens(KEY)
NOW = datetime(2026, 9, 1, tzinfo=UTC)
UNTIL = NOW + timedelta(minutes=15)
MOMENT = timedelta(microseconds=1)
CLAIMS = Claims(SignInId(UUID(int=7)), "ann@example.org", NOW, UNTIL)
TOKEN = SIGNER.sign(CLAIMS)
HEADER = {"alg": "HS256", "typ": "JWT"}
PAYLOAD = {
    "iss": "arena-core",
    "aud": "arena-core-api",
    "sub": "ann@example.org",
    "sid": str(UUID(int=7)),
    "iat": int(NOW.timestamp()),
    "exp": int(UNTIL.timestamp()),
}


def encoded(part: bytes | object) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def token(header=HEADER, payload=PAYLOAD, *, key: bytes = KEY, hashing="sha256") -> str:
    """Return a token made by hand, properly signed whatever it says."""
    signed = f"{encoded(header)}.{encoded(payload)}"
    mac = hmac.digest(key, signed.encode(), hashing)
    return f"{signed}.{encoded(mac)}"


def flaw(text: str, now: datetime = NOW) -> Flaw:
    with pytest.raises(Unauthenticated) as caught:
        SIGNER.verify(text, now)
    assert len(text) < 10 or text not in str(caught.value)
    return caught.value.flaw


def test_what_was_signed_is_read_back_and_any_client_can_read_when_it_expires():
    assert SIGNER.verify(TOKEN, NOW) == CLAIMS
    body = TOKEN.split(".")[1]
    said = json.loads(base64.urlsafe_b64decode(body + "=="))
    assert said == PAYLOAD
    assert TOKEN.startswith("eyJ")


def test_a_token_made_by_hand_is_read_so_that_the_refusals_below_mean_something():
    assert SIGNER.verify(token(), NOW) == CLAIMS


@given(
    st.builds(
        Claims,
        st.uuids(),
        st.text(min_size=1, max_size=200).filter(lambda t: t.isprintable()),
        st.just(NOW),
        st.just(UNTIL),
    )
)
def test_every_user_name_survives(claims):
    assert SIGNER.verify(SIGNER.sign(claims), NOW) == claims


def test_a_token_lives_from_when_it_was_issued_until_the_moment_it_expires():
    assert SIGNER.verify(TOKEN, UNTIL - MOMENT) == CLAIMS
    assert flaw(TOKEN, UNTIL) is Flaw.REVOKED
    assert flaw(TOKEN, NOW - MOMENT) is Flaw.REVOKED


@pytest.mark.parametrize(
    "forged",
    [
        token(key=b"x" * 32),
        token(key=b""),
        token({"alg": "none", "typ": "JWT"}, key=b""),
        f"{encoded({'alg': 'none'})}.{encoded(PAYLOAD)}.",
        f"{encoded({'alg': 'None'})}.{encoded(PAYLOAD)}.",
        token({"alg": "HS384", "typ": "JWT"}, hashing="sha384"),
        token({"alg": "HS512", "typ": "JWT"}, hashing="sha512"),
        token({"alg": "RS256", "typ": "JWT"}),
        token({"alg": ["HS256"], "typ": "JWT"}),
        token({"typ": "JWT"}),
        token([]),
        token({**HEADER, "crit": ["exp"], "b64": False}),
    ],
    ids=[
        "other key", "no key", "none signed", "none", "None", "HS384", "HS512", "RS256",
        "alg list", "no alg", "header list", "crit",
    ],
)  # fmt: skip
def test_another_key_or_algorithm_is_refused(forged):
    assert flaw(forged) is Flaw.MALFORMED


@pytest.mark.parametrize("claim", sorted(PAYLOAD))
def test_a_token_without_one_of_its_claims_is_refused(claim):
    payload = {name: value for name, value in PAYLOAD.items() if name != claim}
    assert flaw(token(payload=payload)) is Flaw.MALFORMED


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("iss", "arena-core-2"),
        ("iss", ["arena-core"]),
        ("iss", None),
        ("aud", "arena-core"),
        ("aud", ["arena-core-api"]),
        ("aud", ["arena-core-api", "another"]),
        ("aud", None),
        ("sub", 7),
        ("sub", None),
        ("sid", "seven"),
        ("sid", 7),
        ("sid", None),
        ("sid", ["00000000-0000-0000-0000-000000000007"]),
        ("iat", "soon"),
        ("iat", None),
        ("iat", 10**30),
        ("iat", {}),
        ("exp", "late"),
        ("exp", None),
        ("exp", 10**30),
        ("exp", True),
        ("exp", float("nan")),
    ],
)
def test_a_claim_that_we_never_make_is_refused(claim, value):
    assert flaw(token(payload={**PAYLOAD, claim: value})) in Flaw


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"\xff", b"null", b"{}"])
def test_a_body_that_is_no_object_of_ours_is_refused(body):
    assert flaw(token(payload=body)) is Flaw.MALFORMED


def test_a_token_that_is_not_to_be_used_yet_is_refused():
    soon = int((NOW + timedelta(minutes=5)).timestamp())
    assert flaw(token(payload={**PAYLOAD, "nbf": soon})) is Flaw.MALFORMED


@pytest.mark.parametrize("junk", ["", ".", "..", "...", "eyJ", "eyJ.eyJ.eyJ", "é.ü.ß"])
def test_what_is_no_token_at_all_is_refused(junk):
    assert flaw(junk) is Flaw.MALFORMED


def test_a_huge_token_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(jwt, "decode", None)
    assert flaw(token(payload={**PAYLOAD, "more": "x" * 4096})) is Flaw.MALFORMED


@given(st.integers(0, len(TOKEN) - 1), st.characters(exclude_categories=["Cs"]))
def test_an_altered_token_is_refused(place, character):
    altered = TOKEN[:place] + character + TOKEN[place + 1 :]
    try:
        claims = SIGNER.verify(altered, NOW)
    except Unauthenticated:
        return
    # The last digit of Base64 has bits to spare, which say nothing.
    assert claims == CLAIMS
    assert place == len(TOKEN) - 1 or altered == TOKEN


@given(st.text(max_size=100) | st.binary(max_size=60).map(encoded))
def test_whatever_is_sent_is_refused_plainly(text):
    assert flaw(f"eyJ{text}") is Flaw.MALFORMED


def test_the_key_is_shown_nowhere():
    assert "kkkk" not in repr(SIGNER)
    assert hashlib.sha256(KEY).hexdigest() not in repr(SIGNER)
