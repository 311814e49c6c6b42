"""The two codes of a sign-in (RFC 8628): derived, so that nothing is kept of them.

The user code is what a person compares: twelve consonants, of which nine are random and
three are a check made with the minute and a key of ours.  A mistyped code is told at
once, and the minute is found again by trying the few that are left.  The device code
is the user code, its minute and their MAC: to check one is to make it again.
"""

import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from attrs import field, frozen

from arena_core.application.keys import MasterSecret
from arena_core.application.secrets import is_intact, sealed
from arena_core.domain.errors import Rejected
from arena_core.domain.ids import SignInId, sign_in_of
from arena_core.domain.sign_in import Request

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so that no code is a word; no Y, which is read as one (RFC 8628, 6.1)."""
GROUP = 4
RANDOM_LETTERS = 9
CHECK_LETTERS = 3
MINUTES = 10
"""How long a code is good, less what is over of the minute that it was made in."""
REMEMBERED_MINUTES = 60
"""How long it can be told from a mistyped one that a code was good once."""
MINUTE = timedelta(minutes=1)
PREFIX = "arena_dvc"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class Code:
    """Both codes of one sign-in, before anybody has decided about it."""

    letters: str
    """The user code without its hyphens."""
    minute: int
    """Since 1970; it was made in."""

    @property
    def user_code(self) -> str:
        """The code as it is shown."""
        starts = range(0, len(self.letters), GROUP)
        return "-".join(self.letters[start : start + GROUP] for start in starts)

    @property
    def sign_in_id(self) -> SignInId:
        return sign_in_of(self.letters, self.minute)

    @property
    def expires_at(self) -> datetime:
        return _EPOCH + (self.minute + MINUTES) * MINUTE

    def request(self, client: str) -> Request:
        return Request(self.sign_in_id, client, self.expires_at)


@frozen
class DeviceCodes:
    """Makes codes, and knows its own again.  What it gives out it never keeps."""

    _master: MasterSecret = field(repr=False)

    def begin(self, now: datetime, random_bytes: Callable[[int], bytes]) -> Code:
        """Return a new code, made in the minute of `now`."""
        minute = _minute(now)
        letters = _letters(random_bytes(RANDOM_LETTERS), RANDOM_LETTERS)
        return Code(letters + self._check(letters, minute), minute)

    def device_code(self, code: Code) -> str:
        """Return the secret of whoever has begun it."""
        mac = self._mac("device-code", f"{code.minute}:{code.letters}")
        return sealed(f"{PREFIX}_{code.minute}_{code.letters}", mac)

    def of_device(self, device_code: str) -> Code | None:
        """Return what a device code is of, good or expired; None if it is not ours."""
        parts = device_code.split("_")
        if not is_intact(device_code) or len(parts) != 5 or not _is_number(parts[2]):  # noqa: PLR2004 -- as `device_code` joins them
            return None
        code = Code(parts[3], int(parts[2]))
        ours = hmac.compare_digest(device_code, self.device_code(code))
        return code if ours else None

    def of_user(self, user_code: str, now: datetime) -> Code:
        """Return what a user code is of, however it is written.

        Raises `Rejected` for one that is mistyped or has expired.
        """
        letters = "".join(c for c in user_code.upper() if c.isalnum())
        latest = _minute(now)
        if len(letters) == RANDOM_LETTERS + CHECK_LETTERS:
            for minute in range(latest, latest - REMEMBERED_MINUTES, -1):
                if self._is_ours(letters, minute):
                    return Code(letters, minute)
        raise Rejected(
            "This code is mistyped, or long expired: compare it letter by letter with "
            "the one that the client shows, or begin again there.",
            field="user_code",
        )

    def _is_ours(self, letters: str, minute: int) -> bool:
        given, check = letters[:RANDOM_LETTERS], letters[RANDOM_LETTERS:]
        expected = self._check(given, minute)
        return hmac.compare_digest(check.encode(), expected.encode())

    def _check(self, letters: str, minute: int) -> str:
        return _letters(self._mac("user-code", f"{minute}:{letters}"), CHECK_LETTERS)

    def _mac(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._master.key(purpose), text.encode(), "sha256")


def _minute(now: datetime) -> int:
    return (now - _EPOCH) // MINUTE


def _letters(source: bytes, count: int) -> str:
    """Return `count` letters; each is as likely as any other if the source is long."""
    number, letters = int.from_bytes(source), ""
    for _ in range(count):
        number, digit = divmod(number, len(LETTERS))
        letters += LETTERS[digit]
    return letters


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
