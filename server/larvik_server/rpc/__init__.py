"""The gRPC listener: thin servicers over the services, behind one gate for rights, errors and logs."""
