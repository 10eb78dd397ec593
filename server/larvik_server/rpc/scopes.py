"""Which scope each gRPC method needs. A method that is not here is refused to everybody."""

from __future__ import annotations

from larvik.services.principal import READ, WRITE
from larvik_server.access import ANY

_CATALOG = "/larvik.proto.v1.CatalogService/"
_UPLOADS = "/larvik.proto.v1.UploadService/"
_HEALTH = "/grpc.health.v1.Health/"

METHODS = {
    _CATALOG + "Describe": ANY,
    _CATALOG + "QueryRecords": READ,
    _CATALOG + "CountRecords": READ,
    _CATALOG + "CreateRecords": WRITE,
    _CATALOG + "UpdateRecord": WRITE,
    _CATALOG + "UpdateRecords": WRITE,
    _CATALOG + "DeleteRecord": WRITE,
    _CATALOG + "DeleteRecords": WRITE,
    _CATALOG + "RestoreRecord": WRITE,
    _UPLOADS + "BeginUpload": WRITE,
    _UPLOADS + "GetUpload": WRITE,
    _UPLOADS + "CommitUpload": WRITE,
    _UPLOADS + "AbortUpload": WRITE,
    _UPLOADS + "ImportPath": WRITE,
    _HEALTH + "Check": ANY,
    _HEALTH + "List": ANY,
    _HEALTH + "Watch": ANY,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": ANY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANY,
}
