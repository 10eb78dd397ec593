"""The gate that every Flight call passes: request id, rights, errors, one line in the log."""

from __future__ import annotations

import logging
import re
import secrets
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow.flight as flight

from larvik.errors import PermissionDeniedError, UnavailableError
from larvik.ids import new_id
from larvik.services.identity import IdentityService
from larvik.services.principal import READ, WRITE, Principal
from larvik.wire.status import encode_flight, encode_status, entry_of, presentable
from larvik_server.access import ANY, RevokedKeys, bearer_token, check_scope

log = logging.getLogger(__name__)

#: Name of the middleware.
CALL = "larvik"
_REQUEST_ID = re.compile(r"[\w.-]{1,64}")

#: The action that tells whether streams are served, and the header by which a process asks itself.
HEALTH = "larvik.v1.health"
PROBE_HEADER = "x-larvik-probe"

#: The scope that each Flight method needs; a method that is not here is refused to everybody.
METHODS = {
    flight.FlightMethod.LIST_FLIGHTS: READ,
    flight.FlightMethod.GET_FLIGHT_INFO: READ,
    flight.FlightMethod.GET_SCHEMA: READ,
    flight.FlightMethod.DO_GET: READ,
    flight.FlightMethod.DO_PUT: WRITE,
    flight.FlightMethod.DO_EXCHANGE: READ,
    flight.FlightMethod.DO_ACTION: ANY,
    flight.FlightMethod.LIST_ACTIONS: ANY,
}


class Call(flight.ServerMiddleware):
    """One call: who calls what, and what it moved."""

    def __init__(self, method: str, request_id: str, principal: Principal) -> None:
        self.method = method
        self.request_id = request_id
        self.principal = principal
        self.started = time.perf_counter()
        self.size_bytes = 0
        self.fields: dict[str, object] = {}

    def refusal(self, error: BaseException, *, streaming: bool = False) -> flight.FlightError:
        """Return the exception to raise for `error`, and write the call's line."""
        shown = presentable(error, self.request_id)
        self.finish(str(_code_name(encode_status(shown).code)), reason=shown.reason)
        return encode_flight(shown, streaming=streaming)

    def finish(self, code: str = "OK", **fields: object) -> None:
        """Write the call's line."""
        log.info(
            "flight.finished",
            extra={
                "method": self.method,
                "code": code,
                "subject": self.principal.subject_id,
                "size_bytes": self.size_bytes,
                "duration_ms": round((time.perf_counter() - self.started) * 1000, 3),
                "request_id": self.request_id,
                **self.fields,
                **fields,
            },
        )


class _OwnCall(Call):
    """A call of this process to itself: nothing that a log needs."""

    def finish(self, code: str = "OK", **fields: object) -> None:
        """Write nothing."""


class Gate(flight.ServerMiddlewareFactory):
    """Lets a call begin when its token and scope allow it.

    Parameters
    ----------
    identity : IdentityService
        Knows tokens.
    revoked : RevokedKeys
        Keys that stopped working since.
    """

    def __init__(self, identity: IdentityService, revoked: RevokedKeys) -> None:
        super().__init__()
        self._identity = identity
        self._revoked = revoked
        self.is_draining = False
        self.probe = secrets.token_hex(32)

    def start_call(self, info: flight.CallInfo, headers: Mapping[str, Sequence[str | bytes]]) -> Call:
        """Return the call, or refuse it."""
        method = flight.FlightMethod(info.method)
        given = next(iter(headers.get("x-request-id", ())), None)
        request_id = given if isinstance(given, str) and _REQUEST_ID.fullmatch(given) else new_id()
        if method is flight.FlightMethod.DO_ACTION and self._is_own(headers):
            return _OwnCall(method.name, request_id, Principal("", "", "", frozenset()))
        try:
            return Call(method.name, request_id, self._admit(method, headers))
        except BaseException as error:
            shown = presentable(error, request_id)
            fields = {"method": method.name, "code": _code_name(entry_of(shown).code), "reason": shown.reason}
            log.info("flight.refused", extra={**fields, "request_id": request_id})
            raise encode_flight(shown) from None

    def _is_own(self, headers: Mapping[str, Sequence[str | bytes]]) -> bool:
        given = next(iter(headers.get(PROBE_HEADER, ())), "")
        return isinstance(given, str) and secrets.compare_digest(given.encode(), self.probe.encode())

    def _admit(self, method: flight.FlightMethod, headers: Mapping[str, Sequence[str | bytes]]) -> Principal:
        if self.is_draining:
            raise UnavailableError(
                "The server is shutting down; retry in a moment.", reason="SERVER_DRAINING"
            )
        principal = self._identity.authenticate(
            bearer_token(next(iter(headers.get("authorization", ())), None))
        )
        self._revoked.check(principal.key_id)
        if method not in METHODS:
            raise PermissionDeniedError(f"Nobody may call {method.name}.", reason="METHOD_FORBIDDEN")
        check_scope(principal, METHODS[method])
        return principal


def handler(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method of the server: it gets the `Call` first, and only errors of ours leave it.

    Notes
    -----
    Without it, pyarrow sends the traceback of an unexpected exception to the caller. A handler that returns a
    stream writes the call's line when that ends.
    """

    def guarded(self: Any, context: flight.ServerCallContext, *arguments: Any) -> Any:
        call = context.get_middleware(CALL)
        try:
            answer = function(self, call, context, *arguments)
        except BaseException as error:
            raise call.refusal(error) from None
        if not isinstance(answer, flight.FlightDataStream):
            call.finish()
        return answer

    guarded.__name__, guarded.__doc__ = function.__name__, function.__doc__
    return guarded


def hide_tracebacks() -> None:
    """Keep tracebacks off the wire in this process; logs keep theirs.

    Notes
    -----
    pyarrow's GetSchema appends ``traceback.format_exception`` to the message of whatever its handler raises,
    even of a FlightError, so `handler` alone does not keep them back. Logging does not use that function.
    """
    traceback.format_exception = lambda *_, **__: []


def _code_name(code: int) -> str:
    from google.rpc import code_pb2

    return str(code_pb2.Code.Name(code))
