"""Filling upload sessions: whole shards, each by one writer, and the coarser levels behind them."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import google_crc32c

from larvik import faults
from larvik.array.spec import ArraySpec
from larvik.db.engine import Database
from larvik.db.upload_sessions import UploadSessions
from larvik.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError
from larvik.ids import parse_id
from larvik.services.level_builder import LevelBuilder
from larvik.services.locks import SessionLocks
from larvik.services.principal import ADMIN, WRITE, Principal
from larvik.storage.base import Store
from larvik.storage.codecs import CorruptChunkError
from larvik.storage.encoded import ChunkEncoding, ChunkGrid, Index
from larvik.storage.stored_shards import Shard, StoredShards
from larvik.storage.workers import map_threads
from larvik.storage.writer import ArrayWriter

if TYPE_CHECKING:
    import numpy as np

_TOUCH_EVERY = timedelta(minutes=1)
_KEPT_WRITERS = 64
#: Shards of one stream that are encoded, checked and written at the same time. No further one is taken before
#: a place is free: what has arrived is begun at once, so that whoever asks what is stored waits for it.
WRITERS = 3


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """A chunk that somebody else encoded: its index in the grid of level 0, its bytes, and their CRC-32C."""

    index: Index
    data: bytes
    crc32c: int


class OpenUpload:
    """A session that this process works on, and what writes its array."""

    def __init__(self, begun_at: datetime, writer: ArrayWriter) -> None:
        self.begun_at = begun_at
        self.writer = writer
        self._stored: StoredShards | None = None
        self._lock = threading.Lock()

    @property
    def stored(self) -> StoredShards:
        """Which shards are stored; the store is asked once."""
        with self._lock:
            if self._stored is None:
                levels = range(len(self.writer.spec.levels))
                self._stored = StoredShards(self.writer.pyramid, [self.writer.stored(one) for one in levels])
            return self._stored


class ShardService:
    """Fills upload sessions. Thread-safe; any process of the data folder may go on with one.

    Parameters
    ----------
    database, store : Database, Store
        Where rows and bytes go.
    locks : SessionLocks
        Keeps writers of shards and commits of one session apart, among the processes of this host.
    decode_uploads : bool
        Whether chunks that clients encoded are decoded before they are stored.
    """

    def __init__(
        self, database: Database, store: Store, locks: SessionLocks, *, decode_uploads: bool = True
    ) -> None:
        self._database = database
        self._store = store
        self._locks = locks
        self._decodes = decode_uploads
        self._sessions = UploadSessions(database)
        self._own: set[str] = set()  # sessions that this process works on
        self._open: OrderedDict[str, OpenUpload] = OrderedDict()
        self._builder = LevelBuilder(self._build)
        self._lock = threading.Lock()

    def write(self, principal: Principal, upload_id: str, start: Sequence[int], block: np.ndarray) -> None:
        """Store one shard of level 0, durably; repeating it is harmless.

        Raises
        ------
        NotFoundError
            ``UPLOAD_NOT_FOUND``, when the session ended.
        SelectionError, InvalidArgumentError
            ``REGION_UNALIGNED`` or ``DTYPE_MISMATCH``.
        """
        position = tuple(int(value) for value in start)
        self._put(
            principal,
            upload_id,
            lambda writer: writer.shard(position),
            lambda writer: writer.write(position, block),
        )

    def write_chunks(self, principal: Principal, upload_id: str, chunks: Sequence[EncodedChunk]) -> None:
        """Store one shard of level 0 from its chunks, all of them, in any order; see `write`.

        Raises
        ------
        InvalidArgumentError
            ``BLOCK_INVALID``, for a chunk whose checksum, header or bytes are wrong; names field and chunk.
            Nothing of the shard is stored.
        """

        def put(writer: ArrayWriter) -> None:
            for _ in map_threads(partial(self._check_chunk, writer.encodings[0]), chunks):
                pass
            shard, slots = _slots(writer.pyramid.grids[0], chunks)
            writer.write_chunks(shard.index, slots)

        # Checked under the lock: who asks what is stored waits for what has arrived.
        self._put(principal, upload_id, lambda writer: _slots(writer.pyramid.grids[0], chunks)[0], put)

    def write_many(
        self,
        principal: Principal,
        upload_id: str,
        blocks: Iterable[tuple[Sequence[int], np.ndarray]],
        stored: Callable[[int], object] | None = None,
    ) -> None:
        """Store many shards, `WRITERS` at a time; `stored` is told how many are, after each."""
        self._run((partial(self.write, principal, upload_id, *block) for block in blocks), stored)

    def write_many_chunks(
        self,
        principal: Principal,
        upload_id: str,
        shards: Iterable[Sequence[EncodedChunk]],
        stored: Callable[[int], object] | None = None,
    ) -> None:
        """Store many shards from their chunks, as `write_many` does."""
        self._run((partial(self.write_chunks, principal, upload_id, chunks) for chunks in shards), stored)

    def spec(self, principal: Principal, upload_id: str) -> ArraySpec:
        """Return the spec of an open session, grid included.

        Raises
        ------
        NotFoundError
            ``UPLOAD_NOT_FOUND``, when the session ended.
        """
        return self._opened(principal, upload_id).writer.spec

    def encoding(self, principal: Principal, upload_id: str) -> ChunkEncoding:
        """Return how the chunks of level 0 of an open session are encoded; raises as `spec`."""
        return self._opened(principal, upload_id).writer.encodings[0]

    def stored_blocks(self, principal: Principal, upload_id: str) -> list[int]:
        """Return the numbers, in C order of their grid, of the shards of level 0 that are stored, ascending.

        Waits for those that are being written just now. Raises as `spec`.
        """
        upload_id = parse_id(upload_id, field="upload")
        with self._locks.exclusive(upload_id):
            begun_at, _ = self._check_owner(principal, upload_id)
            return sorted(self._session(upload_id, begun_at).writer.stored(0))

    def close(self) -> None:
        """End what works in the background; idempotent."""
        self._builder.close()

    def _run(
        self, works: Iterable[Callable[[], None]], stored: Callable[[int], object] | None = None
    ) -> None:
        done = 0
        running: deque[Future[None]] = deque()

        def finish_one() -> None:
            nonlocal done
            running.popleft().result()
            done += 1
            if stored is not None:
                stored(done)

        with ThreadPoolExecutor(WRITERS, "larvik-upload") as pool:
            for work in works:
                running.append(pool.submit(work))
                if len(running) >= WRITERS:
                    finish_one()
            while running:
                finish_one()

    def _put(
        self,
        principal: Principal,
        upload_id: str,
        find: Callable[[ArrayWriter], Shard],
        put: Callable[[ArrayWriter], None],
    ) -> None:
        """Store a shard: a new one beside those of others, one that exists while nobody else works on any."""
        upload_id = parse_id(upload_id, field="upload")
        with self._locks.shared(upload_id) as shards:
            begun_at, touched_at = self._check_owner(principal, upload_id)
            session = self._session(upload_id, begun_at)
            shard = find(session.writer)
            with shards.shard(0, session.writer.pyramid.grids[0].number_of(shard.index)):
                is_new = not session.writer.is_stored(shard)
                if is_new:
                    put(session.writer)
        if not is_new:
            with self._locks.exclusive(upload_id):
                begun_at, touched_at = self._check_owner(principal, upload_id)
                session = self._session(upload_id, begun_at)
                put(session.writer)
        if datetime.now(UTC) - touched_at > _TOUCH_EVERY:
            self._sessions.touch(upload_id)
        faults.reach("uploads.block.written")
        self._builder.add(upload_id, begun_at, session.stored.add(shard))

    def _build(self, upload_id: str, begun_at: datetime, shard: Shard) -> list[Shard]:
        """Build a shard of a coarser level unless the session ended; return those that can be built next."""
        with self._locks.shared(upload_id) as shards:
            found = self._sessions.owner(upload_id)
            if found is None:
                self._locks.remove(upload_id)  # made by asking; nobody needs it
            if found is None or found[1] != begun_at:
                self._builder.forget(upload_id)
                return []
            session = self._session(upload_id, begun_at)
            with shards.shard(shard.level, session.writer.pyramid.grids[shard.level].number_of(shard.index)):
                session.writer.build(shard)
        return session.stored.add(shard)

    def _check_chunk(self, encoding: ChunkEncoding, chunk: EncodedChunk) -> None:
        if google_crc32c.value(chunk.data) != chunk.crc32c:
            raise _refused(chunk, "crc32c", "its checksum does not fit")
        try:
            encoding.check(chunk.data, decode=self._decodes)
        except CorruptChunkError as error:
            raise _refused(chunk, "data", str(error)) from error

    def _opened(self, principal: Principal, upload_id: str) -> OpenUpload:
        upload_id = parse_id(upload_id, field="upload")
        with self._locks.shared(upload_id):
            begun_at, _ = self._check_owner(principal, upload_id)
            return self._session(upload_id, begun_at)

    def _check_owner(self, principal: Principal, upload_id: str) -> tuple[datetime, datetime]:
        """Return when the session was begun and last touched; the caller holds its lock."""
        principal.require(WRITE)
        found = self._sessions.owner(upload_id)
        if found is None:
            self._locks.remove(upload_id)  # made by asking; nobody needs it
            raise ended(upload_id)
        if found[0] != principal.subject_id and ADMIN not in principal.scopes:
            raise PermissionDeniedError(
                "The upload session was begun by somebody else.", reason="UPLOAD_FOREIGN", upload_id=upload_id
            )
        return found[1:]

    def _session(self, upload_id: str, begun_at: datetime) -> OpenUpload:
        """Return the session that was begun at `begun_at`: an aborted id may be begun anew."""
        with self._lock:
            known = self._open.get(upload_id)
        if known is not None and known.begun_at == begun_at:
            return known
        session = self._sessions.get(upload_id)
        if session is None:
            raise ended(upload_id)
        spec = ArraySpec.from_dict(session.content["spec"])
        kind = session.content["values"].get("kind") or "intensity"
        writer = ArrayWriter(self._store, session.location, spec, kind=kind)
        opened = OpenUpload(session.created_at, writer)
        with self._lock:
            self._own.add(upload_id)
            self._open[upload_id] = opened
            while len(self._open) > _KEPT_WRITERS:
                self._open.popitem(last=False)
        return opened

    def _forget(self, upload_id: str) -> None:
        self._builder.forget(upload_id)
        with self._lock:
            self._own.discard(upload_id)
            self._open.pop(upload_id, None)
        self._locks.remove(upload_id)


def _slots(grid: ChunkGrid, chunks: Sequence[EncodedChunk]) -> tuple[Shard, list[bytes | None]]:
    """Return which shard `chunks` are, and their bytes in its order; refuse any other number of chunks."""
    slots: list[bytes | None] = [None] * grid.slot_count
    shards = {grid.shard_of(chunk.index) if grid.has(chunk.index) else None for chunk in chunks}
    for chunk in chunks if shards != {None} else ():
        slots[grid.slot_of(chunk.index)] = chunk.data
    found = shards.pop() if len(shards) == 1 else None
    if found is None or not len(chunks) == grid.chunk_count(found) == sum(one is not None for one in slots):
        raise InvalidArgumentError(
            f"{len(chunks)} chunks are not all chunks of one block. Put each of them, once.",
            reason="BLOCK_INVALID",
            field="chunk",
        )
    return Shard(0, found), slots


def ended(upload_id: str) -> NotFoundError:
    """Return the error of a session that is no longer there."""
    return NotFoundError(
        f"There is no upload session {upload_id}: it was committed, aborted, or was idle for too long.",
        reason="UPLOAD_NOT_FOUND",
        upload_id=upload_id,
    )


def _refused(chunk: EncodedChunk, field: str, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The chunk {chunk.index} is refused: {problem}. Encode it as the session's document says.",
        reason="BLOCK_INVALID",
        field=field,
        chunk=",".join(map(str, chunk.index)),
    )
