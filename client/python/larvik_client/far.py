"""Levels that are read from the stored objects themselves, in a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from larvik.storage.engine import RegionReader
from larvik.storage.zarr_metadata import ArrayMetadata
from larvik.wire.refs import decode_refs
from larvik_client.flight import Offer
from larvik_client.presigned import Addresses, PresignedObjects

if TYPE_CHECKING:
    from larvik.proto.v1 import flight_pb2
    from larvik_client.reader import Routes


def read_far(
    routes: Routes,
    command: flight_pb2.FlightCommand,
    offer: Offer,
    metadata: ArrayMetadata,
    name: str,
    region: tuple[slice, ...],
    out: NDArray[Any],
) -> None:
    """Read a region by addresses of stored objects.

    Parameters
    ----------
    command : FlightCommand
        What is read: addresses are asked for again when they end before the read does.
    offer : Offer
        The answer to it, whose encoding is `refs`.
    metadata, name
        Of the level.
    """
    offers = [offer]

    def sign() -> Addresses:
        latest = offers.pop() if offers else routes.flight.offer(command)
        found = (row for batch in routes.flight.redeem(latest) for row in decode_refs(batch))
        return {shard: address for shard, address, _ in found}

    objects = PresignedObjects(name, metadata, sign, routes.http)
    RegionReader(objects, name, metadata).read(region, out)
