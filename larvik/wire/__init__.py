"""The one bridge between domain values and what travels: protobuf messages, Arrow batches, statuses."""
