"""Why an installer failed: outputs recorded from uv 0.13 and from the pip of Python 3.11 (23.2) and 3.13 (24.2), and
real runs against a closed port."""

import pytest

from in2n_blender import environment
from in2n_blender.environment.failures import install_error, unread_pages
from in2n_blender.environment.pip import Pip
from in2n_blender.environment.uv import Uv
from in2n_blender.scene.errors import In2nError

NOT_FOUND = """
ERROR: Could not find a version that satisfies the requirement fast-simplification==0.2.0 (from versions: none)
ERROR: No matching distribution found for fast-simplification==0.2.0
"""
CONFLICT = """
ERROR: Cannot install numpy==1.0 because these package versions have conflicting dependencies.

The conflict is caused by:
    The user requested numpy==1.0
    The user requested (constraint) numpy==1.0

To fix this you could try to:
1. loosen the range of package versions you've specified
2. remove package versions to allow pip to attempt to solve the dependency conflict

ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/dependency-resolution/#dealing-with-dependency-conflicts
"""
TRANSITIVE = """
ERROR: Cannot install requests==2.34.2 because these package versions have conflicting dependencies.

The conflict is caused by:
    requests 2.34.2 depends on charset_normalizer<4 and >=2
    The user requested (constraint) charset-normalizer==3.5.2

ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/dependency-resolution/#dealing-with-dependency-conflicts
"""


def retrying(package: str) -> str:
    """What pip prints."""
    return (
        "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection "
        "broken "
        "by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPConnection object at 0x7fefb3bce990>: Failed to "
        f"establish a new connection: [Errno 111] Connection refused')': /simple/{package}/"
    )


def unread(package: str, why: str) -> str:
    """What pip tells its log alone."""
    return f"Could not fetch URL https://me:secret@mirror.example/simple/{package}/: {why} - skipping"


CLOSED = (
    "connection error: HTTPConnectionPool(host='mirror.example', port=9): Max retries exceeded with url: /simple/x/ "
    "(Caused by NewConnectionError('<pip._vendor.urllib3.connection.HTTPConnection object at 0x7f5a8730a410>: "
    "Failed to "
    "establish a new connection: [Errno 111] Connection refused'))"
)
BUSY = (
    "HTTPConnectionPool(host='mirror.example', port=80): Max retries exceeded with url: /simple/x/ (Caused by "
    "ResponseError('too many 503 error responses'))"
)
ABSENT = "404 Client Error: Not Found for url: https://mirror.example/simple/x/"
FORBIDDEN = "403 Client Error: Forbidden for url: https://mirror.example/simple/x/"

UV_CLOSED = """
error: Request failed after 3 retries in 12.0s
  cause: Failed to fetch: http://127.0.0.1:9/simple/tiny/
  cause: error sending request for url (http://127.0.0.1:9/simple/tiny/)
  cause: client error (Connect)
  cause: tcp connect error
  cause: Connection refused (os error 111)
"""
UV_NO_NAME = """
error: Request failed after 3 retries in 11.0s
  cause: Failed to fetch: https://nowhere.invalid/simple/tiny/
  cause: error sending request for url (https://nowhere.invalid/simple/tiny/)
  cause: client error (Connect)
  cause: dns error
  cause: error resolving DNS
  cause: failed to lookup address information: Name or service not known
"""
UV_BUSY = """
error: Failed to fetch: http://127.0.0.1:8765/simple/tiny/
  cause: HTTP status server error (503 Service Unavailable) for url (http://127.0.0.1:8765/simple/tiny/)
"""
UV_NOT_FOUND = """
error: No solution found when resolving dependencies
  cause: Because tiny was not found in the package registry and you require tiny==1.0, we can conclude that your \
requirements are unsatisfiable.
"""
UV_OFFLINE = """
error: No solution found when resolving dependencies
  cause: Because tiny was not found in the cache and you require tiny==1.0, we can conclude that your \
requirements are unsatisfiable.

hint: Packages were unavailable because the network was disabled. When the \
network is disabled, registry packages may only be read from the cache.
"""
UV_FORBIDDEN = f"""{UV_NOT_FOUND}
hint: An index (http://127.0.0.1:8765/simple) returned a 403 Forbidden error. \
Check that the index URL is correct and the credentials are valid.
"""


@pytest.mark.parametrize(
    "output, code",
    [
        (UV_CLOSED, "no_network"),
        (UV_NO_NAME, "no_network"),
        (UV_BUSY, "no_network"),
        (UV_OFFLINE, "no_network"),
        (UV_NOT_FOUND, "no_package"),
        (UV_FORBIDDEN, "no_package"),
        (NOT_FOUND, "no_package"),
        (retrying("fast-simplification") + NOT_FOUND, "no_network"),
        (unread("fast-simplification", CLOSED) + NOT_FOUND, "no_network"),
        (unread("fast-simplification", BUSY) + NOT_FOUND, "no_network"),
        (unread("fast-simplification", ABSENT) + NOT_FOUND, "no_package"),
        (unread("fast-simplification", FORBIDDEN) + NOT_FOUND, "no_package"),
        (unread("numpy", CLOSED) + "\n" + retrying("numpy") + NOT_FOUND, "no_package"),
        (CONFLICT, "no_package"),
        (retrying("numpy") + CONFLICT, "no_network"),
        (unread("numpy", CLOSED) + CONFLICT, "no_network"),
        (unread("numpy", ABSENT) + CONFLICT, "no_package"),
        (unread("charset-normalizer", CLOSED) + TRANSITIVE, "no_network"),
        (unread("scipy", CLOSED) + TRANSITIVE, "no_package"),
        ("OSError: [Errno 28] No space left on device", "disk_full"),
        ("  cause: dns error: failed to lookup address", "no_network"),
        ("ERROR: HTTPSConnectionPool(host='pypi.example', port=443): Max retries exceeded", "no_network"),
        ("  × No solution found when resolving dependencies:", "no_package"),
        ("ERROR: something odd", "install_failed"),
        ("", "install_failed"),
    ],
)
def test_why_an_installer_failed(output, code, tmp_path):
    error = install_error(["before", *output.splitlines()], tmp_path / "log")
    assert error.code == code
    assert "secret" not in error.message and "\n" not in error.message and "pip.pypa.io" not in error.message


def test_the_sentence_names_the_host_that_failed(tmp_path):
    looking = "Looking in indexes: https://first.example/simple, https://mirror.example/simple"
    lines = [unread("numpy", CLOSED), looking, *CONFLICT.splitlines()]
    assert install_error(lines, tmp_path).message == "The packages could not be downloaded from mirror.example."
    lines = [unread("numpy", FORBIDDEN), looking, *CONFLICT.splitlines()]
    refused = install_error(lines, tmp_path)
    assert refused.message == "The package index mirror.example refuses a package (403 Client Error)."
    assert "password" in refused.hint
    missing = install_error([unread("numpy", ABSENT), looking, *CONFLICT.splitlines()], tmp_path)
    assert missing.message.endswith(
        "Cannot install numpy==1.0 because these package versions have conflicting dependencies."
    )


def test_what_pip_tells_its_log_alone(tmp_path):
    log = tmp_path / "pip.log"
    assert unread_pages(log) == []
    log.write_text(f"2026-11-25T20:18:52,751 Found index url\n2026-11-25T20:18:52,752 {unread('numpy', CLOSED)}\n")
    assert unread_pages(log) == [unread("numpy", CLOSED)]


@pytest.fixture
def closed_port(monkeypatch):
    """Every index is a port where nobody listens, and nothing is tried twice: pip then prints no word about it."""
    for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple")
    for name in ("UV_HTTP_RETRIES", "PIP_RETRIES"):
        monkeypatch.setenv(name, "0")
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_OFFLINE", "PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Uv, "_own_index_serves", lambda self, torch: False)


@pytest.mark.parametrize("uv_by_pip", [True, False])
@pytest.mark.parametrize("constraints", [(), ("tiny==1.0",)])
def test_an_unreachable_index_is_said_in_one_sentence(
    tool, uv_by_pip, constraints, home, pins, closed_port, monkeypatch
):
    if not uv_by_pip:
        monkeypatch.setattr(Pip, "install_uv", lambda self: None)
    pins(constraints=constraints)
    with pytest.raises(In2nError) as raised:
        environment.install(("engine",), home)
    assert raised.value.code == "no_network"
    assert raised.value.message == "The packages could not be downloaded from 127.0.0.1."
    assert "--wheelhouse" in raised.value.hint and not environment.plan(("engine",), home).ready


def test_an_index_without_the_package_is_no_network_trouble(tool, home, pins, tmp_path, monkeypatch):
    index = tmp_path / "index"
    (index / "uv").mkdir(parents=True)
    for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, index.as_uri())
    monkeypatch.setattr(Pip, "install_uv", lambda self: None)
    with pytest.raises(In2nError) as raised:
        environment.install(("engine",), home)
    assert raised.value.code == "no_package" and "tiny" in raised.value.message
