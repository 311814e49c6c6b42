"""/realms/arena/protocol/openid-connect: the three routes of a sign-in.

They are where the public client looks for them, and speak OAuth 2.0 (RFC 6749, 8628).
Whoever calls them is nobody yet; what is asked for without a code costs nothing but an
answer.
"""

from http import HTTPStatus

import msgspec
from attrs import field, frozen

from arena_core.application.grants import Grant
from arena_core.application.sign_ins import CLIENT, INTERVAL_S, Refusal
from arena_core.entrypoints.http.endpoints import (
    PUBLIC,
    Call,
    Endpoint,
    Nothing,
    Reply,
)

PATH = "/realms/arena/protocol/openid-connect"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
REFRESH_TOKEN = "refresh_token"  # noqa: S105 -- the name of a grant
DESCRIPTIONS = {
    Refusal.PENDING: "Nobody has decided about the code yet: ask again.",
    Refusal.TOO_SOON: f"Wait {INTERVAL_S} seconds before asking again.",
    Refusal.EXPIRED: "The code has expired: begin again.",
    Refusal.DENIED: "The sign-in was denied: begin again.",
    Refusal.INVALID: "It is not known here, has been used, or is over: sign in again.",
}


class DeviceRequest(msgspec.Struct):
    """What else a client sends along means nothing here, as OAuth has it."""

    client_id: str = ""


class TokenRequest(msgspec.Struct):
    client_id: str = ""
    grant_type: str = ""
    device_code: str = ""
    refresh_token: str = ""


class LogoutRequest(msgspec.Struct):
    client_id: str = ""
    refresh_token: str = ""


@frozen
class DeviceAuthorization:
    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


@frozen
class TokenAnswer:
    access_token: str = field(repr=False)
    token_type: str
    expires_in: int
    refresh_token: str = field(repr=False)
    refresh_expires_in: int


@frozen
class OAuthError:
    error: str
    error_description: str


def begin(call: Call) -> Reply:
    body: DeviceRequest = call.body
    if body.client_id != CLIENT:
        return _unknown_client()
    begun = call.use.sign_ins.begin()
    page = f"{call.base_url}/device"
    answer = DeviceAuthorization(
        begun.device_code,
        begun.user_code,
        page,
        f"{page}?user_code={begun.user_code}",
        begun.expires_in_s,
        INTERVAL_S,
    )
    return Reply(answer, secret=True)


def token(call: Call) -> Reply:
    body: TokenRequest = call.body
    if body.client_id != CLIENT:
        return _unknown_client()
    match body.grant_type:
        case "":
            return _refused("invalid_request", "The grant_type is missing.")
        case grant if grant == DEVICE_CODE:
            return _granted(call.use.sign_ins.redeem(body.device_code))
        case grant if grant == REFRESH_TOKEN:
            return _granted(call.use.sign_ins.refresh(body.refresh_token))
        case _:
            return _refused(
                "unsupported_grant_type",
                f"Use {DEVICE_CODE} or {REFRESH_TOKEN}.",
            )


def logout(call: Call) -> Reply:
    body: LogoutRequest = call.body
    if body.client_id != CLIENT:
        return _unknown_client()
    if not call.use.sign_ins.sign_out(body.refresh_token):
        return _granted(Refusal.INVALID)
    return Reply(None, HTTPStatus.NO_CONTENT, secret=True)


def _granted(outcome: Grant | Refusal) -> Reply:
    if isinstance(outcome, Refusal):
        return _refused(outcome.value, DESCRIPTIONS[outcome])
    answer = TokenAnswer(
        outcome.access_token,
        "Bearer",
        outcome.expires_in_s,
        outcome.refresh_token,
        outcome.refresh_expires_in_s,
    )
    return Reply(answer, secret=True)


def _unknown_client() -> Reply:
    return _refused("invalid_client", f"The client_id must be {CLIENT}.")


def _refused(error: str, description: str) -> Reply:
    answer = OAuthError(error, description)
    return Reply(answer, HTTPStatus.BAD_REQUEST, secret=True)


ENDPOINTS = (
    Endpoint(
        "POST",
        PATH + "/auth/device",
        begin,
        PUBLIC,
        "Begin a sign-in by a device code",
        DeviceAuthorization,
        body=DeviceRequest,
        also=HTTPStatus.BAD_REQUEST,
        also_answer=OAuthError,
        form=True,
    ),
    Endpoint(
        "POST",
        PATH + "/token",
        token,
        PUBLIC,
        "Take up an approved sign-in, or refresh an access token",
        TokenAnswer,
        body=TokenRequest,
        also=HTTPStatus.BAD_REQUEST,
        also_answer=OAuthError,
        form=True,
    ),
    Endpoint(
        "POST",
        PATH + "/logout",
        logout,
        PUBLIC,
        "Sign out: the sign-in of the refresh token is over",
        Nothing,
        body=LogoutRequest,
        status=HTTPStatus.NO_CONTENT,
        also=HTTPStatus.BAD_REQUEST,
        also_answer=OAuthError,
        form=True,
    ),
)
