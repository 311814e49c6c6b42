"""By which names `serve` answers, if nobody has said so."""

from http.client import HTTPConnection

import pytest

from arena_core.entrypoints.cli.reaching import with_hosts
from arena_core.entrypoints.settings import Settings

from end_to_end.processes import PATIENCE_S, Place, serving

GIVEN = Settings("memory:")


def status(address, host):
    connection = HTTPConnection(address, timeout=PATIENCE_S)
    connection.request("GET", "/livez", headers={"Host": host})
    found = connection.getresponse().status
    connection.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_on_a_loopback_address_it_is_called_by_no_name_from_elsewhere(
    tmp_path, workers
):
    place = Place(tmp_path)
    options = ("--token-file", place.token_file, "--workers", workers)
    environ = {"ARENA_PUBLIC_URL": "https://arena.example/api"}
    with serving(place, *options, environ=environ) as process:
        port = process.address.partition(":")[2]
        for host in ("localhost", f"127.0.0.1:{port}", "[::1]", "arena.example"):
            assert status(process.address, host) == 200, host
        for host in ("rebound.example", "169.254.1.1", "example"):
            assert status(process.address, host) == 421, host


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_said_counts(tmp_path, workers):
    place = Place(tmp_path)
    options = ("--token-file", place.token_file, "--workers", workers)
    environ = {"ARENA_ALLOWED_HOSTS": "127.0.0.1, one.example"}
    with serving(place, *options, environ=environ) as process:
        assert status(process.address, "one.example:1") == 200
        assert status(process.address, "localhost") == 421


def test_whoever_listens_to_everybody_is_called_by_every_name():
    for host in ("0.0.0.0", "::", "10.0.0.1", "arena.example"):  # noqa: S104 -- the case in point
        assert with_hosts(GIVEN, host).allowed_hosts is None


def test_the_address_that_it_listens_at_is_a_name_too():
    assert "127.0.0.7" in with_hosts(GIVEN, "127.0.0.7").allowed_hosts
    assert "[::1]" in with_hosts(GIVEN, "::1").allowed_hosts
