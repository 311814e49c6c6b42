"""A server for the people with agilerl-arena, and what they find there.

It is started once: no test leaves anything behind that concerns another.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

import bundles
from end_to_end.arena_platform import Platform, balancer, platform_in
from end_to_end.arena_users import Program, Shell, User, shell_process
from end_to_end.public_client import VERSIONS, PublicClient, opened, python_of


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, before anything is selected by marks."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("end_to_end")


@pytest.fixture(scope="session")
def platform(tmp_path_factory) -> Iterator[Platform]:
    with platform_in(tmp_path_factory.mktemp("server")) as platform:
        yield platform


@pytest.fixture(scope="session", params=VERSIONS)
def client(request, tmp_path_factory) -> Iterator[PublicClient]:
    with opened(request.param, request, tmp_path_factory) as client:
        yield client


@pytest.fixture(scope="session")
def token(platform) -> str:
    return platform.token()


@pytest.fixture
def user(platform, client, token) -> User:
    """A member, whose machine knows nothing yet."""
    shutil.rmtree(client.home / ".arena", ignore_errors=True)
    return User(client, platform.environ(ARENA_API_KEY=token))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    return balancer(tmp_path_factory.mktemp("balancer"))


@pytest.fixture(scope="session")
def swapped(tmp_path_factory) -> Path:
    """A checkpoint that always does the opposite."""
    folder = tmp_path_factory.mktemp("swapped")
    return bundles.cartpole(folder, network=bundles.BALANCER.swapped())


@pytest.fixture(scope="session")
def pole(platform, bundle) -> str:
    """The name of an experiment, and of its only agent, which answers."""
    name = platform.experiment(bundle)
    return platform.live(name, name=name)


@pytest.fixture(scope="session")
def trained(platform, bundle, swapped) -> str:
    """An experiment whose best checkpoint is not its final one."""
    name = platform.experiment(swapped, bundle)
    platform.write(platform.id_of(name), swapped, step=5)
    return name


@pytest.fixture(scope="session")
def unscored(platform, bundle, swapped) -> str:
    """An experiment whose final checkpoint is the best there is."""
    name = platform.experiment()
    platform.write(platform.id_of(name), swapped, step=10)
    platform.write(platform.id_of(name), bundle, step=20)
    return name


@pytest.fixture(scope="session", params=VERSIONS)
def commands(request, tmp_path_factory) -> Iterator[Shell]:
    """The command `arena`, imported once, for nobody yet."""
    version, home = request.param, tmp_path_factory.mktemp("home")
    with shell_process(python_of(version, request), home) as process:
        yield Shell(version, home, home, {}, process)


@pytest.fixture
def arena(commands, platform, token, tmp_path) -> Shell:
    """The command `arena` for a member, whose machine knows nothing yet."""
    shutil.rmtree(commands.home / ".arena", ignore_errors=True)
    environ = platform.environ(ARENA_API_KEY=token)
    return evolve(commands, folder=tmp_path, environ=environ)


@pytest.fixture(params=VERSIONS)
def program(request, platform, token, tmp_path) -> Program:
    """The same, as it is installed."""
    path = python_of(request.param, request).with_name("arena")
    environ = platform.environ(ARENA_API_KEY=token)
    return Program(request.param, path, tmp_path, environ)
