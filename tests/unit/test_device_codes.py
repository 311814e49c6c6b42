import re
import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.application.device_codes import LETTERS, Code, DeviceCodes
from arena_core.application.keys import MasterSecret
from arena_core.application.secrets import is_intact, sealed
from arena_core.domain.errors import Rejected

CODES = DeviceCodes(MasterSecret(b"m" * 32))
OTHERS = DeviceCodes(MasterSecret(b"n" * 32))
NOW = datetime(2026, 9, 1, 12, 0, 30, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
sources = st.binary(min_size=9, max_size=9)
times = st.datetimes(
    datetime(2026, 1, 1),  # noqa: DTZ001 -- hypothesis adds the zone
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def begun(source: bytes = b"some bytes", now: datetime = NOW) -> Code:
    return CODES.begin(now, lambda size: source[:size].ljust(size, b"."))


CODE = begun()
DEVICE_CODE = CODES.device_code(CODE)


@given(sources, times)
def test_a_code_is_known_again_however_a_person_writes_it(source, now):
    code = begun(source, now)
    assert re.fullmatch(rf"[{LETTERS}]{{4}}(-[{LETTERS}]{{4}}){{2}}", code.user_code)
    for written in (
        code.user_code,
        code.user_code.lower(),
        code.letters,
        f" {code.user_code.replace('-', ' ')}\n",
    ):
        assert CODES.of_user(written, now) == code


@given(sources, times)
def test_a_device_code_says_what_it_is_of(source, now):
    code = begun(source, now)
    device_code = CODES.device_code(code)
    assert is_intact(device_code)
    assert CODES.of_device(device_code) == code


@given(sources, sources)
def test_other_bytes_are_another_code(one, other):
    number = 20**9
    same = int.from_bytes(one) % number == int.from_bytes(other) % number
    assert (begun(one).letters == begun(other).letters) is same


def test_a_code_is_good_for_nine_to_ten_minutes():
    for second in (0, 30, 59.999):
        now = NOW.replace(second=0) + timedelta(seconds=second)
        lasts = begun(now=now).expires_at - now
        assert timedelta(minutes=9) < lasts <= timedelta(minutes=10)


def test_a_code_that_was_good_is_told_from_a_mistyped_one_for_an_hour():
    begun_at = NOW.replace(second=0)
    last = begun_at + timedelta(hours=1) - MOMENT
    assert CODES.of_user(CODE.user_code, last) == CODE
    with pytest.raises(Rejected, match="long expired"):
        CODES.of_user(CODE.user_code, last + MOMENT)


def test_a_code_is_not_good_before_it_was_made():
    with pytest.raises(Rejected):
        CODES.of_user(CODE.user_code, NOW - timedelta(minutes=1))


def test_almost_every_mistyped_letter_is_told_at_once():
    wrong = [
        CODE.letters[:place] + letter + CODE.letters[place + 1 :]
        for place in range(12)
        for letter in set(LETTERS) - {CODE.letters[place]}
    ]
    assert sum(map(is_known, wrong)) <= 5  # of 228; by chance it is 1 in 133


def is_known(text: str) -> bool:
    try:
        CODES.of_user(text, NOW)
    except Rejected:
        return False
    return True


@pytest.mark.parametrize(
    "text", ["", "-", CODE.letters[:-1], CODE.letters + "B", "ß" * 6, "\ud800" * 12]
)
def test_what_has_not_twelve_letters_is_no_code(text):
    with pytest.raises(Rejected, match="mistyped"):
        CODES.of_user(text, NOW)


def test_a_text_of_many_megabytes_is_refused_without_looking_at_it(monkeypatch):
    monkeypatch.setattr(DeviceCodes, "_is_ours", None)
    with pytest.raises(Rejected):
        CODES.of_user("B" * 10_000_000, NOW)


def test_a_user_code_of_another_installation_is_none():
    with pytest.raises(Rejected):
        OTHERS.of_user(CODE.user_code, NOW)


def test_a_device_code_of_another_installation_is_none():
    assert OTHERS.of_device(DEVICE_CODE) is None


@given(st.integers(0, len(DEVICE_CODE) - 1), st.characters())
def test_an_altered_device_code_is_none(place, character):
    altered = DEVICE_CODE[:place] + character + DEVICE_CODE[place + 1 :]
    assert (CODES.of_device(altered) is None) is (altered != DEVICE_CODE)


@pytest.mark.parametrize(
    ("minute", "letters"),
    [
        (CODE.minute + 1, CODE.letters),  # it would live longer
        (CODE.minute, begun(b"other").letters),  # it would be somebody else's
        ("-1", CODE.letters),
        ("²", CODE.letters),
        ("1_0", CODE.letters),
        ("9" * 100, CODE.letters),
    ],
)
def test_a_forged_device_code_with_a_true_check_sum_is_none(minute, letters):
    for mac in (bytes(32), b"\xff" * 32, mac_of(DEVICE_CODE)):
        forged = sealed(f"arena_dvc_{minute}_{letters}", mac)
        assert CODES.of_device(forged) is None


def mac_of(device_code: str) -> bytes:
    number = 0
    for digit in device_code.rpartition("_")[2][:-6]:
        number = 62 * number + DIGITS.index(digit)
    return number.to_bytes(32)


def test_that_very_code_is_what_its_parts_make_again():
    parts = f"arena_dvc_{CODE.minute}_{CODE.letters}"
    assert sealed(parts, mac_of(DEVICE_CODE)) == DEVICE_CODE


@given(st.text(max_size=300) | st.from_regex(r"arena_dvc_[0-9]+_[A-Z]+_\w{49}"))
def test_whatever_is_sent_as_a_device_code_is_none_or_ours(text):
    assert CODES.of_device(text) is None
