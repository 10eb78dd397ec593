"""Which filesystem a folder is on: databases need one whose locks and shared memory are the host's own."""

from __future__ import annotations

import os
from pathlib import Path

from larvik.errors import PreconditionError

#: Filesystem types, as the kernel names them, that other hosts can write at the same time.
NETWORK = frozenset(
    {
        "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs",
        "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
    }
)  # fmt: skip


def refuse_network(folder: Path, *, mounts: str = "/proc/self/mounts") -> None:
    """Refuse a folder on a network filesystem, where SQLite's write-ahead log loses data.

    Raises
    ------
    PreconditionError
        ``DATA_ON_NETWORK``; names the type.
    """
    kind = filesystem_type(folder, mounts=mounts)
    if kind in NETWORK:
        raise PreconditionError(
            f"The data folder {folder.name!r} is on a network filesystem ({kind}), where SQLite loses data."
            " Put the database on a local disk and name the network folder as store_url.",
            reason="DATA_ON_NETWORK",
            filesystem=kind,
        )


def filesystem_type(folder: Path, *, mounts: str = "/proc/self/mounts") -> str | None:
    """Return the type of the filesystem that holds `folder`, or None where the system does not tell."""
    path = os.path.realpath(folder)
    best: tuple[int, str | None] = (-1, None)
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                _, point, kind, *_ = line.split(" ")
                point = point.encode("utf-8", "surrogateescape").decode("unicode_escape")
                inside = path == point or path.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= best[0]:
                    best = (len(point), kind)
    except OSError:
        return None
    return best[1]
