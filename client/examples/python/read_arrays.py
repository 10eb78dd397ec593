"""Lists the arrays of a Larvik server, reads the first one as tensors and reads the table of channels.

pyarrow's own Flight client and a token are all it takes:
    LARVIK_TOKEN=... python read_arrays.py grpc://localhost:7411
"""

from __future__ import annotations

import os
import sys
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight


def main() -> int:
    token = os.environ.get("LARVIK_TOKEN")
    if len(sys.argv) != 2 or token is None:
        print("LARVIK_TOKEN=... python read_arrays.py grpc://localhost:7411", file=sys.stderr)
        return 2
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())])
    with flight.FlightClient(sys.argv[1]) as client:
        arrays = list(client.list_flights(b"arrays", options))
        for info in arrays:
            about = info.schema.metadata
            dims, shape = about[b"larvik.dims"].decode(), about[b"larvik.shape"].decode()
            print(
                f"array {info.descriptor.path[1].decode()} {about[b'larvik.dtype'].decode()} ({dims}) {shape}"
            )
        if arrays:
            pixels = read_array(client, arrays[0].descriptor, options)
            name = arrays[0].descriptor.path[1].decode()
            print(f"read {name} {pixels.nbytes} bytes crc32 {zlib.crc32(pixels.tobytes()):08x}")
        read_table(client, "Channel", options)
    return 0


def read_array(
    client: flight.FlightClient, descriptor: flight.FlightDescriptor, options: flight.FlightCallOptions
) -> np.ndarray:
    """Return a whole array, put together from its tensors."""
    info = client.get_flight_info(descriptor, options)
    stream = client.do_get(info.endpoints[0].ticket, options)
    about = stream.schema.metadata
    shape = tuple(map(int, about[b"larvik.shape"].decode().split(",")))
    pixels = np.empty(shape, about[b"larvik.dtype"].decode())
    for chunk in stream:
        tensors = chunk.data.column("data").to_numpy_ndarray()
        for tensor, start in zip(tensors, chunk.data.column("start").to_pylist(), strict=True):
            pixels[tuple(slice(a, a + n) for a, n in zip(start, tensor.shape, strict=True))] = tensor
    return pixels


def read_table(client: flight.FlightClient, model: str, options: flight.FlightCallOptions) -> None:
    """Print the columns and the first rows of a model."""
    info = client.get_flight_info(flight.FlightDescriptor.for_path("models", model), options)
    table = client.do_get(info.endpoints[0].ticket, options).read_all()
    print(f"table {model} columns {','.join(table.column_names)}")
    for row in table.slice(0, 5).to_pylist():
        print(f"row {row['Name']} {row['EmissionWavelength']}")
    print(f"rows {table.num_rows}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except pa.ArrowException as error:
        sys.exit(str(error))
