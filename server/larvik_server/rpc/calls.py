"""The gate that every gRPC call passes: request id, rights, deadline, errors, one line in the log."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from larvik.errors import (
    DeadlineError,
    InvalidArgumentError,
    LarvikError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
)
from larvik.ids import new_id
from larvik.services.principal import Principal
from larvik.wire.status import DETAILS_KEY, encode_status, presentable
from larvik_server.access import ANY, bearer_token, check_scope

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\w.-]{1,64}")
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_CALL: ContextVar[Call] = ContextVar("call")


@dataclass(slots=True)
class Call:
    """One call: who calls what, and when it began."""

    method: str
    request_id: str
    is_known: bool
    started: float = field(default_factory=time.perf_counter)
    principal: Principal | None = None


def principal() -> Principal:
    """Return who makes the present call."""
    found = _CALL.get().principal
    assert found is not None, "the gate lets nobody pass without a principal"
    return found


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Wraps every handler of the server, known or not.

    Parameters
    ----------
    authenticate : callable
        Gives the principal of a bearer token; raises UnauthenticatedError.
    scopes : mapping of str to str
        The scope that each method needs; a method that is not in it is refused to everybody.
    deadline_s : float
        Deadline of calls with one answer that set none.
    """

    def __init__(
        self,
        authenticate: Callable[[str], Awaitable[Principal]],
        scopes: Mapping[str, str],
        deadline_s: float,
    ) -> None:
        self._authenticate = authenticate
        self._scopes = scopes
        self._deadline_s = deadline_s
        self.is_draining = False

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of the method behind the gate."""
        handler = await continuation(handler_call_details)
        metadata = dict(handler_call_details.invocation_metadata or ())
        method = handler_call_details.method
        if handler is None:
            return grpc.unary_unary_rpc_method_handler(self._unary(_unknown, method, metadata))
        parse, serialize = handler.request_deserializer, handler.response_serializer
        # Requests arrive here as bytes, so that a malformed one is refused like any other bad argument.
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            stream = self._stream(inner, method, metadata, parse, many=bool(handler.request_streaming))
            if handler.request_streaming:
                return grpc.stream_stream_rpc_method_handler(stream, response_serializer=serialize)
            return grpc.unary_stream_rpc_method_handler(stream, response_serializer=serialize)
        wrapped = self._unary(handler.unary_unary, method, metadata, parse)
        return grpc.unary_unary_rpc_method_handler(wrapped, response_serializer=serialize)

    def _unary(
        self, inner: Any, method: str, metadata: Mapping[str, str | bytes], parse: Any = None
    ) -> Callable[[bytes, Any], Awaitable[Any]]:
        async def behaviour(data: bytes, context: Any) -> Any:
            call = self._begin(method, metadata, is_known=inner is not _unknown)
            try:
                await self._admit(call, metadata)
                remaining = context.time_remaining()
                async with asyncio.timeout(self._deadline_s if remaining is None else max(0.0, remaining)):
                    answer = await inner(_parse(parse, data), context)
            except BaseException as error:
                await self._fail(call, error, context)
                raise
            self._finish(call, "OK")
            return answer

        return behaviour

    def _stream(
        self, inner: Any, method: str, metadata: Mapping[str, str | bytes], parse: Any, *, many: bool
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def requests(items: AsyncIterator[bytes]) -> AsyncIterator[Any]:
            async for data in items:
                yield _parse(parse, data)

        async def behaviour(data: Any, context: Any) -> AsyncIterator[Any]:
            call = self._begin(method, metadata)
            try:
                await self._admit(call, metadata)
                answers = inner(requests(data) if many else _parse(parse, data), context)
                if not hasattr(answers, "__aiter__"):
                    await answers  # a handler that writes to its context
                else:
                    async for answer in answers:
                        yield answer
            except BaseException as error:
                await self._fail(call, error, context)
                raise
            self._finish(call, "OK")

        return behaviour

    def _begin(self, method: str, metadata: Mapping[str, str | bytes], *, is_known: bool = True) -> Call:
        given = metadata.get("x-request-id")
        request_id = given if isinstance(given, str) and _REQUEST_ID.fullmatch(given) else new_id()
        call = Call(method, request_id, is_known)
        _CALL.set(call)
        return call

    async def _admit(self, call: Call, metadata: Mapping[str, str | bytes]) -> None:
        if self.is_draining:
            raise UnavailableError(
                "The server is shutting down; another one, or this one soon, takes the call.",
                reason="SERVER_DRAINING",
            )
        call.principal = await self._authenticate(bearer_token(metadata.get("authorization")))
        scope = self._scopes.get(call.method) if call.is_known else ANY
        if scope is None:
            raise PermissionDeniedError(f"Nobody may call {call.method[:200]}.", reason="METHOD_FORBIDDEN")
        check_scope(call.principal, scope)

    async def _fail(self, call: Call, error: BaseException, context: Any) -> None:
        """Abort the call with what may be shown of `error`; a call that is over only gets its line."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._finish(call, "CANCELLED")
            return
        if isinstance(error, grpc.aio.AbortError):
            self._finish(call, context.code().name if context.code() else "UNKNOWN")
            return
        if isinstance(error, TimeoutError) and not isinstance(error, LarvikError):
            error = DeadlineError("The call took longer than its deadline.")
        shown = presentable(error, call.request_id)
        status = encode_status(shown)
        code = _CODES[status.code]
        self._finish(call, code.name, shown.reason)
        trailer = ((DETAILS_KEY, status.SerializeToString()), ("x-request-id", call.request_id))
        await context.abort(code, status.message, trailer)

    def _finish(self, call: Call, code: str, reason: str | None = None) -> None:
        fields = {
            "method": call.method,
            "code": code,
            "subject": call.principal.subject_id if call.principal else None,
            "duration_ms": round((time.perf_counter() - call.started) * 1000, 3),
            "request_id": call.request_id,
        }
        log.info("rpc.finished", extra={**fields, **({"reason": reason} if reason else {})})


async def _unknown(request: object, context: Any) -> object:
    raise UnsupportedError(
        "This server has no such method; it may be older than the client.", reason="METHOD_UNKNOWN"
    )


def _parse(parse: Callable[[bytes], Any] | None, data: bytes) -> Any:
    if parse is None:
        return data
    try:
        return parse(data)
    except (DecodeError, RecursionError):
        raise InvalidArgumentError(
            "The request does not hold the message that the method takes.",
            reason="MESSAGE_MALFORMED",
            field="request",
        ) from None
