"""Who acts and who shares: Subject and Team."""

from __future__ import annotations

from larvik.models.base import Model, field


class Subject(Model, unique=(("name",),)):
    """Somebody or something that calls Larvik: a person, a service or a worker."""

    name: str = field(max_length=200, doc="Unique login or service name.")
    kind: str = field(choices=("user", "service", "worker"), default="user", doc="What the subject is.")


class Team(Model):
    """A group of subjects that share objects."""

    name: str = field(max_length=200, doc="Name of the team.")
