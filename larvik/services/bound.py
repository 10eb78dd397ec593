"""Services bound to one principal: what `larvik.connection` describes, without the principal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from larvik.query.query import Page, Query, Record
from larvik.services.catalog import CatalogService
from larvik.services.principal import Principal

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from larvik.array.spec import ArraySpec
    from larvik.services.rows import Rows
    from larvik.services.uploads import Begun, UploadService


T = TypeVar("T")


class BoundCatalog:
    """The catalog for one principal; `edited` is called after every write of arrays' rows or parts."""

    def __init__(
        self, catalog: CatalogService, principal: Principal, edited: Callable[[], object] = lambda: None
    ) -> None:
        self._catalog = catalog
        self._principal = principal
        self._edited = edited

    def page(self, query: Query, *, size: int = 100, token: str | None = None) -> Page:
        """Return one page of rows, in order, and the token of the next; one SELECT."""
        return self._catalog.page(self._principal, query, size=size, token=token)

    def count(self, query: Query) -> int:
        """Return the number of rows."""
        return self._catalog.count(self._principal, query)

    def table(self, query: Query) -> pa.RecordBatchReader:
        """Return all rows of `query` columnar, streamed."""
        return self._catalog.table(self._principal, query)

    def create(self, model: str, rows: Sequence[Mapping[str, object]]) -> list[Record]:
        """Store rows in one transaction."""
        return self._after(model, self._catalog.create(self._principal, model, rows))

    def update(self, model: str, id: str, changes: Mapping[str, object], revision: int | None) -> Record:
        """Change one row; with `revision`, only if it is still the stored one."""
        return self._after(model, self._catalog.update(self._principal, model, id, changes, revision))

    def update_many(self, query: Query, changes: Mapping[str, object]) -> int:
        """Change every row of `query` in one transaction; return how many."""
        return self._after(query.model, self._catalog.update_many(self._principal, query, changes))

    def delete(self, model: str, id: str) -> Record:
        """Move a row to the trash (a part is removed for good)."""
        return self._after(model, self._catalog.delete(self._principal, model, id))

    def delete_many(self, query: Query) -> int:
        """Move every row of `query` to the trash; return how many."""
        return self._after(query.model, self._catalog.delete_many(self._principal, query))

    def restore(self, model: str, id: str) -> Record:
        """Bring a row back from the trash."""
        return self._after(model, self._catalog.restore(self._principal, model, id))

    def _after(self, model: str, result: T) -> T:
        spec = self._catalog.registry.get(model)
        if spec.is_array or spec.is_part:
            self._edited()
        return result


class BoundUploads:
    """Upload sessions for one principal; their service is asked for when it is first needed."""

    def __init__(self, uploads: Callable[[], UploadService], principal: Principal) -> None:
        self._uploads = uploads
        self._principal = principal

    def begin(self, model: str, values: Mapping[str, object], spec: ArraySpec, biometa: Rows) -> Begun:
        """Open a session for one new array of `model`."""
        return self._uploads().begin(self._principal, model, values, spec, biometa)

    def put(self, upload: Any, start: tuple[int, ...], block: np.ndarray) -> None:
        """Store one block."""
        self._uploads().write(self._principal, upload.id, start, block)

    def put_many(
        self,
        upload: Any,
        blocks: Iterable[tuple[tuple[int, ...], np.ndarray]],
        stored: Callable[[int], object] | None = None,
    ) -> None:
        """Store many blocks; `stored` is told how many are."""
        self._uploads().write_many(self._principal, upload.id, blocks, stored)

    def stored(self, upload: Any) -> list[int]:
        """Return the numbers of the blocks that are stored."""
        return self._uploads().stored_blocks(self._principal, upload.id)

    def commit(
        self,
        upload: Any,
        *,
        progress: Callable[[int, int], object] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Record:
        """Build the levels, then make the array visible; return its row."""
        return self._uploads().commit(self._principal, upload.id, progress=progress, cancelled=cancelled)

    def abort(self, upload: Any) -> None:
        """Drop the session and its bytes."""
        self._uploads().abort(self._principal, upload.id)
