"""The client: connections to a Larvik server over gRPC and Arrow Flight."""
