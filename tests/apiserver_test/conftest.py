"""A server for the tests of a module."""

import pytest

pytest.register_assert_rewrite("copying", "replay", "special")

from apiclient import ApiServer  # noqa: E402


@pytest.fixture(scope="module")
def start_server(tmp_path_factory):
    """A function that starts servers; they are stopped after the module."""
    running = []

    def start(*options):
        server = ApiServer(tmp_path_factory.mktemp("apiserver"), *options)
        running.append(server)
        return server
    yield start
    assert [server.stop() for server in running] == [(0, "")] * len(running)


@pytest.fixture(scope="module")
def server(start_server):
    return start_server("--deletion-delay", "0.2")
