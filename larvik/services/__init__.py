"""The use cases: catalog, arrays, uploads, imports, identity. Plain Python; no sockets, no SQL."""
