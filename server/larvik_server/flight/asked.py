"""What an ArrayRead asks for, looked at once: bytes, chunks, and where they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

from larvik.array.expression import Expression
from larvik.array.planner import Plan, plan
from larvik.services.arrays import ArrayService, StoredArray
from larvik.services.stored_objects import StoredObjects, StoredRegion
from larvik.storage.zarr_metadata import ArrayMetadata
from larvik.wire.results import described

#: What compressed chunks are taken to have, of their decoded bytes, where nobody counted.
ASSUMED_RATIO = 0.5


class Asked:
    """What an ArrayRead asks for, and what is known of it.

    Parameters
    ----------
    service : ArrayService
        Opens arrays.
    expression : Expression
        What is asked for.
    arrays : mapping
        Where its arrays are, by id.
    dims : sequence of str
        Names of the dims of the result.
    codecs : collection of str
        Compressors that the client decodes.
    is_near : bool
        Whether the client asks from this host.
    """

    def __init__(
        self,
        service: ArrayService,
        expression: Expression,
        arrays: Mapping[str, StoredArray],
        dims: Sequence[str],
        codecs: Collection[str],
        is_near: bool,
    ) -> None:
        self.service = service
        self.expression = expression
        self.arrays = arrays
        self.dims = dims
        self.codecs = codecs
        self.is_near = is_near
        self.region = StoredRegion.of(expression)

    @cached_property
    def figures(self) -> Plan:
        """Bytes and chunks."""
        return plan(self.expression, remote=False, where="client")

    @cached_property
    def objects(self) -> StoredObjects:
        """Of the level that the expression is a box of."""
        assert self.region is not None
        source = self.region.source
        return self.service.objects(self.arrays[source.array_id], source.level)

    @property
    def metadata(self) -> ArrayMetadata:
        """Of that level."""
        return self.objects.metadata

    @cached_property
    def stored_bytes(self) -> int:
        """Stored bytes of the chunks that are touched, estimated."""
        stored = sum(array.stored_bytes for array in self.arrays.values())
        levels = sum(array.spec.nbytes_of_levels for array in self.arrays.values())
        if stored and levels:
            return int(self.figures.bytes_source * stored / levels)
        is_raw = self.region is not None and self.metadata.compressor is None
        return int(self.figures.bytes_source * (1.0 if is_raw else ASSUMED_RATIO))

    def schema_metadata(self, promised: str) -> dict[str, str]:
        """Return the metadata of the schema, the plan included."""
        node = self.expression
        return described(node.shape, node.dtype, self.dims, {"larvik.plan": promised})

    def not_stored(self) -> str:
        """Return why the stored objects cannot be had by this client in any encoding; else nothing."""
        if self.region is None:
            return "a computed result has no stored form"
        if not self.expression.size:
            return "an empty result needs none"
        compressor = self.metadata.compressor or "none"
        return "" if compressor in self.codecs else f"the client does not decode {compressor!r}"
