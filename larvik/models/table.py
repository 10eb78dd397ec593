"""Measurement tables: an Arrow schema in the database, rows in Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from larvik.models.base import Owned, field, relation

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from larvik.models.array import Representation
    from larvik.models.experiment import Experiment, Sample


class Table(Owned, indexes=(("name", "id"),)):
    """Measurements: columns and types in the database, rows in one Parquet file."""

    name: str = field(max_length=400, doc="Name of the table.")
    description: str = field(default="", max_length=100_000, doc="What was measured.")
    columns: dict[str, Any] = field(read_only=True, default=None, doc="Column name to Arrow type, in order.")
    num_rows: int = field(read_only=True, default=0, doc="Rows of the table.")
    location: str = field(
        read_only=True, default="", max_length=2000, doc="Parquet file below the store's root."
    )
    stored_bytes: int = field(read_only=True, default=0, unit="byte", doc="Bytes in the store.")
    experiment: Experiment | None = relation(
        "Experiment", reverse="tables", default=None, doc="Its experiment."
    )
    sample: Sample | None = relation(
        "Sample", reverse="tables", default=None, doc="Sample it was measured on."
    )
    representation: Representation | None = relation(
        "Representation", reverse="tables", default=None, doc="Image it was measured on."
    )

    def arrow(self) -> pyarrow.Table:
        """Return every row as a pyarrow Table."""
        return self._bound().arrays.read_table(self.id)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Give every row to a consumer of Arrow's PyCapsule interface."""
        return self.arrow().__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        """Return the schema as Arrow's PyCapsule interface asks; reads the rows too."""
        return self.arrow().schema.__arrow_c_schema__()

    def frame(self) -> pandas.DataFrame:
        """Return every row as a pandas DataFrame."""
        frame: pandas.DataFrame = self.arrow().to_pandas()
        return frame
