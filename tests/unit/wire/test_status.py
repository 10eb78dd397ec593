"""Errors are the same classes on both sides, whatever carries them."""

from __future__ import annotations

import logging

import pyarrow.flight
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from larvik import errors
from larvik.errors import InternalError, LarvikError, NotFoundError, ResourceExhaustedError
from larvik.models import Sample
from larvik.wire import status

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LarvikError)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_as_the_class_that_was_raised(kind):
    error = kind("what is wrong", reason="FIELD_INVALID", field="Sample.name", id=7)
    carried = [
        status.decode_details(status.encode_status(error).SerializeToString()),
        status.decode_flight(status.encode_flight(error)),
        status.decode_flight(status.encode_flight(error, streaming=True)),
    ]
    for back in carried:
        assert type(back) is kind
        assert (back.message, back.reason, back.metadata) == (error.message, error.reason, error.metadata)


def test_every_class_of_errors_has_its_row_in_the_table():
    direct = {entry.error for entry in status.TABLE}
    assert {kind for kind in CLASSES if LarvikError in kind.__bases__} <= direct


def test_an_error_of_one_model_travels_as_its_general_class():
    back = status.decode_status(status.encode_status(Sample.DoesNotExist("none")))
    assert type(back) is NotFoundError


def test_a_defect_shows_a_fixed_message_and_is_logged_with_its_traceback(caplog):
    with caplog.at_level(logging.ERROR):
        shown = status.presentable(RuntimeError("/srv/secret/path"), "request-7")
    assert isinstance(shown, InternalError)
    assert "request-7" in shown.message
    assert "secret" not in str(status.encode_status(shown))
    assert caplog.records[0].exc_info


def test_running_out_of_memory_is_no_defect():
    assert isinstance(status.presentable(MemoryError(), "1"), ResourceExhaustedError)


def test_a_status_fits_the_trailers_of_every_client():
    error = LarvikError("ä" * 100_000, reason="INTERNAL", **{f"key{n}": "ö" * 10_000 for n in range(100)})
    assert len(status.encode_status(error).SerializeToString()) < 6000


def test_a_limit_says_when_to_try_again():
    message = status.encode_status(ResourceExhaustedError("full", retry_after_s=1.5))
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in message.details)
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_a_class_that_does_not_fit_its_code_is_not_believed():
    message = status.encode_status(NotFoundError("none"))
    message.code = code_pb2.PERMISSION_DENIED
    assert type(status.decode_status(message)) is errors.PermissionDeniedError


@pytest.mark.parametrize("details", [b"", b"\xff\xff", status_pb2.Status(code=5).SerializeToString()])
def test_a_trailer_that_is_not_ours_is_none_of_ours(details):
    assert status.decode_details(details) is None


@pytest.mark.parametrize("entry", status.TABLE, ids=lambda entry: entry.error.__name__)
def test_a_flight_exception_without_details_still_has_a_class(entry):
    error = getattr(pyarrow.flight, entry.flight)("message")
    back = status.decode_flight(error)
    assert isinstance(back, LarvikError)
    if entry.flight not in ("FlightServerError", "FlightInternalError"):
        assert type(back) is entry.error
