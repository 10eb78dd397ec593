"""The server: gRPC and Flight listeners over `larvik.services`."""
