"""Fields of requests, described as narrowly as they are checked further in.

Most bounds are for /openapi.json only: the domain refuses what is beyond them, with a
sentence of its own.
"""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from arena_core.domain.values import LONGEST_DESCRIPTION, LONGEST_NAME

_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0][^\x00-\x1f\x7f-\x9f]*$"
"""A visible character at least, and no control characters."""

Name: TypeAlias = Annotated[
    str,
    Meta(
        extra_json_schema={
            "minLength": 1,
            "maxLength": LONGEST_NAME,
            "pattern": _PRINTABLE,
        }
    ),
]
Description: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"maxLength": LONGEST_DESCRIPTION})
]
Roles: TypeAlias = Literal["viewer", "member", "manager"]
Step: TypeAlias = Annotated[int, Meta(extra_json_schema={"minimum": 0})]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
Moment: TypeAlias = Annotated[
    str,
    Meta(
        extra_json_schema={
            "description": "A position of the log, or a time with its zone",
            "anyOf": [
                {"pattern": "^[0-9]{1,18}$"},
                {"format": "date-time"},
            ],
        }
    ),
]
