"""The Flight listener: a process of its own, so that bulk data never waits for anything else."""
