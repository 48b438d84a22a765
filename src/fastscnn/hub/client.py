"""huggingface_hub: imported only when an address of the hub is used; its errors become sentences.

It adds the version of PyTorch, and which tool runs it, to its requests, unless a variable forbids that before it is imported.
Here it does, if it is not set already.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from types import ModuleType

from fastscnn.base.errors import FastSCNNError, missing_extra
from fastscnn.hub.address import Address

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_ONE = Lock()  # warnings.catch_warnings in several threads at a time leaves its filters behind
_STATUS = {
    401: f"the hub does not accept the token; {_LOG_IN}",
    403: "the token does not allow this; use one with access to the repository, for `push` one with write access",
    404: "the hub has no such repository or file; check the address",
    409: "the repository was changed at the same time; try again",
    413: "the file is too large for the hub",
    429: "the hub got too many requests; try again later",
}


@contextmanager
def client(address: Address) -> Iterator[ModuleType]:
    """Yield huggingface_hub, to one thread at a time. Its warnings are not shown, and its errors are raised as ours.

    Raises:
        FastSCNNError: the package is missing, or what it raised while it read or wrote `address`.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ModuleNotFoundError as error:
        raise missing_extra(f"{address}: {error.name} is missing. The hub", "hub") from error
    hub: ModuleType = huggingface_hub
    try:
        with _silenced(hub):
            yield hub
    except FastSCNNError:
        raise
    # HTTPError is the base of all errors of the HTTP library, httpx or httpx2; the others are of huggingface_hub.
    except (hub.errors.HTTPError, hub.errors.EntryNotFoundError, OSError, ValueError, RuntimeError) as error:
        raise FastSCNNError(f"{address}: {_reason(hub, address, error)}.") from error


@contextmanager
def _silenced(hub: ModuleType) -> Iterator[None]:
    log = hub.utils.logging
    with _ONE, warnings.catch_warnings(action="ignore"):
        level = log.get_verbosity()
        log.set_verbosity_error()
        try:
            yield
        finally:
            log.set_verbosity(level)


def _reason(hub: ModuleType, address: Address, error: Exception) -> str:
    """Return what went wrong and the fix, without the full stop."""
    errors, site = hub.errors, hub.constants.ENDPOINT
    while isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    known = {
        errors.OfflineModeIsEnabled: "is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub; unset it",
        errors.GatedRepoError: f"its terms must be accepted first, at {site}/{address.repository}; then {_LOG_IN}",
        errors.RepositoryNotFoundError: f"there is no such repository, or it is private; check the name, or {_LOG_IN}",
        errors.RevisionNotFoundError: f"there is no branch, tag or commit {address.revision!r}; check the part after @",
    }
    for kind, sentence in known.items():
        if isinstance(error, kind):
            return sentence
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        return _STATUS.get(status, f"the hub answered with status {status}; try again later")
    if isinstance(error, OSError) and error.strerror:  # a full disk, a file in place of the cache
        return f"{error.filename or hub.constants.HF_HUB_CACHE} cannot be read or written ({error.strerror})"
    if isinstance(error, ValueError | RuntimeError):  # about arguments and answers, in words of the hub
        return f"the hub refuses it ({' '.join(str(error).split())})"
    return f"{site} cannot be reached ({type(error).__name__}); check the network, or give a file of this machine"
