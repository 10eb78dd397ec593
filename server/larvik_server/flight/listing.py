"""ListFlights and FlightInfo: what there is, for clients that know nothing of Larvik."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pyarrow as pa
import pyarrow.flight as flight

from larvik.errors import InvalidArgumentError, LarvikError
from larvik.proto.v1 import flight_pb2
from larvik.query.query import Order, Query, Record
from larvik.services.bundle import Services
from larvik.services.principal import Principal
from larvik_server.flight.reads import ARRAYS, MODELS, TABLES, Read, Reads
from larvik_server.flight.tickets import Tickets

_PAGE = 1000


class Listing:
    """Makes the FlightInfo of reads, and lists them.

    Parameters
    ----------
    services : Services
        What there is.
    reads : Reads
        Opens it.
    tickets : Tickets
        Makes the tickets.
    most : int
        Most arrays, and most tables, of one listing.
    """

    def __init__(self, services: Services, reads: Reads, tickets: Tickets, most: int) -> None:
        self._services = services
        self._reads = reads
        self._tickets = tickets
        self._most = most

    def info(
        self, principal: Principal, descriptor: flight.FlightDescriptor, read: Read
    ) -> flight.FlightInfo:
        """Return what a client needs to read: schema, plan and a ticket for this server."""
        plan = read.plan
        encoding = plan.encoding if plan is not None else flight_pb2.ENCODING_UNSPECIFIED
        ticket, expires = self._tickets.issue(principal, read.command, read.arrays.values(), encoding)
        return flight.FlightInfo(
            read.schema,
            descriptor,
            [flight.FlightEndpoint(ticket, [], pa.scalar(int(expires * 1000), pa.timestamp("ms", "UTC")))],
            -1,
            plan.result_bytes if plan is not None else -1,
            False,
            plan.SerializeToString() if plan is not None else b"",
        )

    def listed(self, principal: Principal, criteria: bytes) -> Iterator[flight.FlightInfo]:
        """Yield arrays, tables and models, or the one kind that the criteria name; newest first.

        Raises
        ------
        InvalidArgumentError
            ``CRITERIA_INVALID``, for other criteria.
        """
        every = (ARRAYS, TABLES, MODELS)
        kinds = {b"": every, **{kind.encode(): (kind,) for kind in every}}
        if criteria not in kinds:
            raise InvalidArgumentError(
                "The criteria are empty, or one of: arrays, tables, models.",
                reason="CRITERIA_INVALID",
                field="criteria",
            )
        for kind in kinds[criteria]:
            for name, read in self._found(principal, kind):
                yield self.info(principal, flight.FlightDescriptor.for_path(kind, name), read)

    def _found(self, principal: Principal, kind: str) -> Iterator[tuple[str, Read]]:
        if kind == MODELS:
            for spec in self._services.registry:
                yield spec.name, self._reads.open_path(principal, (MODELS, spec.name))
            return
        models = (
            [spec.name for spec in self._services.registry if spec.is_array] if kind == ARRAYS else ["Table"]
        )
        for record in self._rows(principal, models):
            # Neither damage nor a registered source that is gone: reading these by path says what is wrong.
            with suppress(LarvikError):
                yield str(record.values["id"]), self._opened(principal, kind, record)

    def _opened(self, principal: Principal, kind: str, record: Record) -> Read:
        array_id = str(record.values["id"])
        if kind == TABLES:
            return self._reads.open_path(principal, (TABLES, array_id))
        return self._reads.open_array(principal, array_id, self._services.arrays.stored(record))

    def _rows(self, principal: Principal, models: list[str]) -> Iterator[Record]:
        left = self._most
        for model in models:
            token = None
            while left > 0:
                query = Query(model, order_by=(Order(("id",), descending=True),))
                page = self._services.catalog.page(principal, query, size=min(_PAGE, left), token=token)
                yield from page.records
                left -= len(page.records)
                token = page.next_token
                if token is None:
                    break
