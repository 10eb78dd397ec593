"""Every table of the first release."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UUID = sa.Text().with_variant(postgresql.UUID(as_uuid=False), "postgresql")
TIMESTAMP = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text().with_variant(postgresql.JSON(), "postgresql")


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "channel",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("object_id", UUID, nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("name", TEXT, nullable=True),
        sa.Column("fluor", TEXT, nullable=True),
        sa.Column("emission_wavelength", sa.Double(), nullable=True),
        sa.Column("excitation_wavelength", sa.Double(), nullable=True),
        sa.Column("color", TEXT, nullable=True),
        sa.Column("illumination_type", TEXT, nullable=True),
        sa.Column("acquisition_mode", TEXT, nullable=True),
        sa.Column("contrast_method", TEXT, nullable=True),
        sa.Column("pinhole_size", sa.Double(), nullable=True),
        sa.Column("samples_per_pixel", sa.BigInteger(), nullable=True),
        sa.Column("nd_filter", sa.Double(), nullable=True),
        sa.Column("window_start", sa.Double(), nullable=True),
        sa.Column("window_end", sa.Double(), nullable=True),
        sa.Column("detector_index", sa.BigInteger(), nullable=True),
        sa.Column("gain", sa.Double(), nullable=True),
        sa.Column("binning", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channel")),
    )
    op.create_index("ix_channel_name_object_id", "channel", ["name", "object_id"], unique=False)
    op.create_index("ix_channel_object_id_index", "channel", ["object_id", "index"], unique=False)
    op.create_table(
        "detector",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("object_id", UUID, nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("manufacturer", TEXT, nullable=True),
        sa.Column("model", TEXT, nullable=True),
        sa.Column("type", TEXT, nullable=True),
        sa.Column("gain", sa.Double(), nullable=True),
        sa.Column("offset", sa.Double(), nullable=True),
        sa.Column("voltage", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_detector")),
    )
    op.create_index("ix_detector_object_id_index", "detector", ["object_id", "index"], unique=False)
    op.create_table(
        "key_value",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("object_id", UUID, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_key_value")),
    )
    op.create_index(
        "ix_key_value_key_value_object_id", "key_value", ["key", "value", "object_id"], unique=False
    )
    op.create_index("ix_key_value_object_id_key", "key_value", ["object_id", "key"], unique=False)
    op.create_table(
        "larvik_store",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_larvik_store")),
    )
    op.create_table(
        "metadata_dirty",
        sa.Column("array_id", UUID, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("marked_at", TIMESTAMP, nullable=False),
        sa.PrimaryKeyConstraint("array_id", name=op.f("pk_metadata_dirty")),
    )
    op.create_index(op.f("ix_metadata_dirty_marked_at"), "metadata_dirty", ["marked_at"], unique=False)
    op.create_table(
        "objective",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("object_id", UUID, nullable=False),
        sa.Column("manufacturer", TEXT, nullable=True),
        sa.Column("model", TEXT, nullable=True),
        sa.Column("nominal_magnification", sa.Double(), nullable=True),
        sa.Column("calibrated_magnification", sa.Double(), nullable=True),
        sa.Column("lens_na", sa.Double(), nullable=True),
        sa.Column("immersion", TEXT, nullable=True),
        sa.Column("correction", TEXT, nullable=True),
        sa.Column("working_distance", sa.Double(), nullable=True),
        sa.Column("medium", TEXT, nullable=True),
        sa.Column("refractive_index", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_objective")),
    )
    op.create_index("ix_objective_object_id", "objective", ["object_id"], unique=False)
    op.create_table(
        "original_metadata",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("object_id", UUID, nullable=False),
        sa.Column("format", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("attributes", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_original_metadata")),
    )
    op.create_index("ix_original_metadata_object_id", "original_metadata", ["object_id"], unique=False)
    op.create_table(
        "plane",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("object_id", UUID, nullable=False),
        sa.Column("the_z", sa.BigInteger(), nullable=False),
        sa.Column("the_c", sa.BigInteger(), nullable=False),
        sa.Column("the_t", sa.BigInteger(), nullable=False),
        sa.Column("delta_t", sa.Double(), nullable=True),
        sa.Column("exposure_time", sa.Double(), nullable=True),
        sa.Column("position_x", sa.Double(), nullable=True),
        sa.Column("position_y", sa.Double(), nullable=True),
        sa.Column("position_z", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plane")),
    )
    op.create_index(
        "ix_plane_object_id_the_t_the_c_the_z",
        "plane",
        ["object_id", "the_t", "the_c", "the_z"],
        unique=False,
    )
    op.create_table(
        "scan",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("object_id", UUID, nullable=False),
        sa.Column("name", TEXT, nullable=True),
        sa.Column("dimension_order", TEXT, nullable=True),
        sa.Column("pixel_type", TEXT, nullable=True),
        sa.Column("significant_bits", sa.BigInteger(), nullable=True),
        sa.Column("size_x", sa.BigInteger(), nullable=True),
        sa.Column("size_y", sa.BigInteger(), nullable=True),
        sa.Column("size_z", sa.BigInteger(), nullable=True),
        sa.Column("size_c", sa.BigInteger(), nullable=True),
        sa.Column("size_t", sa.BigInteger(), nullable=True),
        sa.Column("physical_size_x", sa.Double(), nullable=True),
        sa.Column("physical_size_y", sa.Double(), nullable=True),
        sa.Column("physical_size_z", sa.Double(), nullable=True),
        sa.Column("time_increment", sa.Double(), nullable=True),
        sa.Column("acquisition_date", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scan")),
    )
    op.create_index("ix_scan_object_id", "scan", ["object_id"], unique=False)
    op.create_table(
        "schema_package",
        sa.Column("package", TEXT, nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("migrated_at", TIMESTAMP, nullable=False),
        sa.PrimaryKeyConstraint("package", name=op.f("pk_schema_package")),
    )
    op.create_table(
        "subject",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subject")),
        sa.UniqueConstraint("name", name="uq_subject_name"),
    )
    op.create_table(
        "tag",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("object_id", UUID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tag")),
    )
    op.create_index("ix_tag_name_object_id", "tag", ["name", "object_id"], unique=False)
    op.create_index("ix_tag_object_id_name", "tag", ["object_id", "name"], unique=False)
    op.create_table(
        "team",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_team")),
    )
    op.create_table(
        "upload",
        sa.Column("id", UUID, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("array_id", UUID, nullable=False),
        sa.Column("subject_id", UUID, nullable=True),
        sa.Column("location", TEXT, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("touched_at", TIMESTAMP, nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload")),
        sa.UniqueConstraint("array_id", name=op.f("uq_upload_array_id")),
    )
    op.create_index(op.f("ix_upload_touched_at"), "upload", ["touched_at"], unique=False)
    op.create_table(
        "api_key",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("subject_id", UUID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("is_preset", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("expires_at", TIMESTAMP, nullable=True),
        sa.Column("revoked_at", TIMESTAMP, nullable=True),
        sa.ForeignKeyConstraint(
            ["subject_id"], ["subject.id"], name="fk_api_key_subject_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
    )
    op.create_index(op.f("ix_api_key_subject_id"), "api_key", ["subject_id"], unique=False)
    op.create_table(
        "experiment",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("linked_paper", TEXT, nullable=True),
        sa.Column("created_by_id", UUID, nullable=True),
        sa.Column("owner_id", UUID, nullable=True),
        sa.Column("team_id", UUID, nullable=True),
        sa.Column("description", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["subject.id"], name="fk_experiment_created_by_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["subject.id"], name="fk_experiment_owner_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name="fk_experiment_team_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiment")),
    )
    op.create_index("ix_experiment_created_by_id", "experiment", ["created_by_id"], unique=False)
    op.create_index(
        "ix_experiment_name_id_deleted_at", "experiment", ["name", "id", "deleted_at"], unique=False
    )
    op.create_index("ix_experiment_owner_id", "experiment", ["owner_id"], unique=False)
    op.create_index("ix_experiment_team_id", "experiment", ["team_id"], unique=False)
    op.create_index(
        "ix_experiment_trash",
        "experiment",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "file",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("format", TEXT, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("created_by_id", UUID, nullable=True),
        sa.Column("owner_id", UUID, nullable=True),
        sa.Column("team_id", UUID, nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["subject.id"], name="fk_file_created_by_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["subject.id"], name="fk_file_owner_id", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name="fk_file_team_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file")),
    )
    op.create_index("ix_file_created_by_id", "file", ["created_by_id"], unique=False)
    op.create_index("ix_file_digest", "file", ["digest"], unique=False)
    op.create_index("ix_file_name_id_deleted_at", "file", ["name", "id", "deleted_at"], unique=False)
    op.create_index("ix_file_owner_id", "file", ["owner_id"], unique=False)
    op.create_index("ix_file_team_id", "file", ["team_id"], unique=False)
    op.create_index(
        "ix_file_trash",
        "file",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "antibody",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("target", TEXT, nullable=True),
        sa.Column("host", TEXT, nullable=True),
        sa.Column("clone", TEXT, nullable=True),
        sa.Column("catalog_number", TEXT, nullable=True),
        sa.Column("fluorophore", TEXT, nullable=True),
        sa.Column("created_by_id", UUID, nullable=True),
        sa.Column("owner_id", UUID, nullable=True),
        sa.Column("team_id", UUID, nullable=True),
        sa.Column("experiment_id", UUID, nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["subject.id"], name="fk_antibody_created_by_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiment.id"], name="fk_antibody_experiment_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["subject.id"], name="fk_antibody_owner_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name="fk_antibody_team_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_antibody")),
    )
    op.create_index("ix_antibody_created_by_id", "antibody", ["created_by_id"], unique=False)
    op.create_index("ix_antibody_experiment_id", "antibody", ["experiment_id"], unique=False)
    op.create_index("ix_antibody_name_id_deleted_at", "antibody", ["name", "id", "deleted_at"], unique=False)
    op.create_index("ix_antibody_owner_id", "antibody", ["owner_id"], unique=False)
    op.create_index("ix_antibody_team_id", "antibody", ["team_id"], unique=False)
    op.create_index(
        "ix_antibody_trash",
        "antibody",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "experimental_group",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("is_control", sa.Boolean(), nullable=False),
        sa.Column("created_by_id", UUID, nullable=True),
        sa.Column("owner_id", UUID, nullable=True),
        sa.Column("team_id", UUID, nullable=True),
        sa.Column("experiment_id", UUID, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["subject.id"], name="fk_experimental_group_created_by_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiment.id"],
            name="fk_experimental_group_experiment_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["subject.id"], name="fk_experimental_group_owner_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["team_id"], ["team.id"], name="fk_experimental_group_team_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experimental_group")),
    )
    op.create_index(
        "ix_experimental_group_created_by_id", "experimental_group", ["created_by_id"], unique=False
    )
    op.create_index(
        "ix_experimental_group_experiment_id", "experimental_group", ["experiment_id"], unique=False
    )
    op.create_index(
        "ix_experimental_group_name_id_deleted_at",
        "experimental_group",
        ["name", "id", "deleted_at"],
        unique=False,
    )
    op.create_index("ix_experimental_group_owner_id", "experimental_group", ["owner_id"], unique=False)
    op.create_index("ix_experimental_group_team_id", "experimental_group", ["team_id"], unique=False)
    op.create_index(
        "ix_experimental_group_trash",
        "experimental_group",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "series",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created_by_id", UUID, nullable=True),
        sa.Column("owner_id", UUID, nullable=True),
        sa.Column("team_id", UUID, nullable=True),
        sa.Column("file_id", UUID, nullable=False),
        sa.Column("info", JSON, nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["subject.id"], name="fk_series_created_by_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name="fk_series_file_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["owner_id"], ["subject.id"], name="fk_series_owner_id", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name="fk_series_team_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("file_id", "index", name="uq_series_file_id_index"),
    )
    op.create_index("ix_series_created_by_id", "series", ["created_by_id"], unique=False)
    op.create_index("ix_series_owner_id", "series", ["owner_id"], unique=False)
    op.create_index("ix_series_team_id", "series", ["team_id"], unique=False)
    op.create_index(
        "ix_series_trash",
        "series",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "animal",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("species", TEXT, nullable=True),
        sa.Column("sex", TEXT, nullable=True),
        sa.Column("age_days", sa.Double(), nullable=True),
        sa.Column("created_by_id", UUID, nullable=True),
        sa.Column("owner_id", UUID, nullable=True),
        sa.Column("team_id", UUID, nullable=True),
        sa.Column("experiment_id", UUID, nullable=True),
        sa.Column("group_id", UUID, nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["subject.id"], name="fk_animal_created_by_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiment.id"], name="fk_animal_experiment_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["experimental_group.id"], name="fk_animal_group_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["subject.id"], name="fk_animal_owner_id", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name="fk_animal_team_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_animal")),
    )
    op.create_index("ix_animal_created_by_id", "animal", ["created_by_id"], unique=False)
    op.create_index("ix_animal_experiment_id", "animal", ["experiment_id"], unique=False)
    op.create_index("ix_animal_group_id", "animal", ["group_id"], unique=False)
    op.create_index("ix_animal_name_id_deleted_at", "animal", ["name", "id", "deleted_at"], unique=False)
    op.create_index("ix_animal_owner_id", "animal", ["owner_id"], unique=False)
    op.create_index("ix_animal_team_id", "animal", ["team_id"], unique=False)
    op.create_index(
        "ix_animal_trash",
        "animal",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "sample",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created_by_id", UUID, nullable=True),
        sa.Column("owner_id", UUID, nullable=True),
        sa.Column("team_id", UUID, nullable=True),
        sa.Column("experiment_id", UUID, nullable=True),
        sa.Column("group_id", UUID, nullable=True),
        sa.Column("animal_id", UUID, nullable=True),
        sa.Column("description", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["animal_id"], ["animal.id"], name="fk_sample_animal_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["subject.id"], name="fk_sample_created_by_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiment.id"], name="fk_sample_experiment_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["experimental_group.id"], name="fk_sample_group_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["subject.id"], name="fk_sample_owner_id", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name="fk_sample_team_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sample")),
    )
    op.create_index("ix_sample_animal_id", "sample", ["animal_id"], unique=False)
    op.create_index("ix_sample_created_by_id", "sample", ["created_by_id"], unique=False)
    op.create_index(
        "ix_sample_experiment_id_id_deleted_at", "sample", ["experiment_id", "id", "deleted_at"], unique=False
    )
    op.create_index("ix_sample_group_id", "sample", ["group_id"], unique=False)
    op.create_index("ix_sample_name_id_deleted_at", "sample", ["name", "id", "deleted_at"], unique=False)
    op.create_index("ix_sample_owner_id", "sample", ["owner_id"], unique=False)
    op.create_index("ix_sample_team_id", "sample", ["team_id"], unique=False)
    op.create_index(
        "ix_sample_trash",
        "sample",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "representation",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("dims", JSON, nullable=False),
        sa.Column("shape", JSON, nullable=False),
        sa.Column("dtype", TEXT, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("location", TEXT, nullable=False),
        sa.Column("is_registered", sa.Boolean(), nullable=False),
        sa.Column("fingerprint", TEXT, nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("scope_id", UUID, nullable=True),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("acquired_at", TIMESTAMP, nullable=True),
        sa.Column("acquired_local", TEXT, nullable=True),
        sa.Column("created_by_id", UUID, nullable=True),
        sa.Column("owner_id", UUID, nullable=True),
        sa.Column("team_id", UUID, nullable=True),
        sa.Column("sample_id", UUID, nullable=True),
        sa.Column("parent_id", UUID, nullable=True),
        sa.Column("series_id", UUID, nullable=True),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("attributes", JSON, nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["subject.id"], name="fk_representation_created_by_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["subject.id"], name="fk_representation_owner_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["representation.id"], name="fk_representation_parent_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["sample.id"], name="fk_representation_sample_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name="fk_representation_series_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["team_id"], ["team.id"], name="fk_representation_team_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_representation")),
    )
    op.create_index("ix_representation_created_by_id", "representation", ["created_by_id"], unique=False)
    op.create_index(
        "ix_representation_name_id_deleted_at", "representation", ["name", "id", "deleted_at"], unique=False
    )
    op.create_index("ix_representation_owner_id", "representation", ["owner_id"], unique=False)
    op.create_index("ix_representation_parent_id", "representation", ["parent_id"], unique=False)
    op.create_index(
        "ix_representation_sample_id_type_scope_id_id_deleted_at",
        "representation",
        ["sample_id", "type", "scope_id", "id", "deleted_at"],
        unique=False,
    )
    op.create_index(
        "ix_representation_scope_id_type_id_deleted_at",
        "representation",
        ["scope_id", "type", "id", "deleted_at"],
        unique=False,
    )
    op.create_index("ix_representation_series_id", "representation", ["series_id"], unique=False)
    op.create_index("ix_representation_team_id", "representation", ["team_id"], unique=False)
    op.create_index(
        "ix_representation_trash",
        "representation",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index(
        "ix_representation_type_id_deleted_at", "representation", ["type", "id", "deleted_at"], unique=False
    )
    op.create_table(
        "roi",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("label", TEXT, nullable=True),
        sa.Column("color", TEXT, nullable=True),
        sa.Column("vertex_dims", JSON, nullable=False),
        sa.Column("created_by_id", UUID, nullable=True),
        sa.Column("owner_id", UUID, nullable=True),
        sa.Column("team_id", UUID, nullable=True),
        sa.Column("representation_id", UUID, nullable=False),
        sa.Column("group_id", UUID, nullable=True),
        sa.Column("vertices", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["subject.id"], name="fk_roi_created_by_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["experimental_group.id"], name="fk_roi_group_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["subject.id"], name="fk_roi_owner_id", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["representation_id"], ["representation.id"], name="fk_roi_representation_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name="fk_roi_team_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roi")),
    )
    op.create_index("ix_roi_created_by_id", "roi", ["created_by_id"], unique=False)
    op.create_index("ix_roi_group_id", "roi", ["group_id"], unique=False)
    op.create_index("ix_roi_owner_id", "roi", ["owner_id"], unique=False)
    op.create_index(
        "ix_roi_representation_id_id_deleted_at",
        "roi",
        ["representation_id", "id", "deleted_at"],
        unique=False,
    )
    op.create_index("ix_roi_team_id", "roi", ["team_id"], unique=False)
    op.create_index(
        "ix_roi_trash",
        "roi",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "table",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("num_rows", sa.BigInteger(), nullable=False),
        sa.Column("location", TEXT, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_by_id", UUID, nullable=True),
        sa.Column("owner_id", UUID, nullable=True),
        sa.Column("team_id", UUID, nullable=True),
        sa.Column("experiment_id", UUID, nullable=True),
        sa.Column("sample_id", UUID, nullable=True),
        sa.Column("representation_id", UUID, nullable=True),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("columns", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["subject.id"], name="fk_table_created_by_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiment.id"], name="fk_table_experiment_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["subject.id"], name="fk_table_owner_id", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["representation_id"],
            ["representation.id"],
            name="fk_table_representation_id",
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(["sample_id"], ["sample.id"], name="fk_table_sample_id", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name="fk_table_team_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_table")),
    )
    op.create_index("ix_table_created_by_id", "table", ["created_by_id"], unique=False)
    op.create_index("ix_table_experiment_id", "table", ["experiment_id"], unique=False)
    op.create_index("ix_table_name_id_deleted_at", "table", ["name", "id", "deleted_at"], unique=False)
    op.create_index("ix_table_owner_id", "table", ["owner_id"], unique=False)
    op.create_index("ix_table_representation_id", "table", ["representation_id"], unique=False)
    op.create_index("ix_table_sample_id", "table", ["sample_id"], unique=False)
    op.create_index("ix_table_team_id", "table", ["team_id"], unique=False)
    op.create_index(
        "ix_table_trash",
        "table",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "transformation",
        sa.Column("id", UUID, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("dims", JSON, nullable=False),
        sa.Column("shape", JSON, nullable=False),
        sa.Column("dtype", TEXT, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("location", TEXT, nullable=False),
        sa.Column("is_registered", sa.Boolean(), nullable=False),
        sa.Column("fingerprint", TEXT, nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("scope_id", UUID, nullable=True),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("created_by_id", UUID, nullable=True),
        sa.Column("owner_id", UUID, nullable=True),
        sa.Column("team_id", UUID, nullable=True),
        sa.Column("representation_id", UUID, nullable=True),
        sa.Column("roi_id", UUID, nullable=True),
        sa.Column("parent_id", UUID, nullable=True),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("attributes", JSON, nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["subject.id"], name="fk_transformation_created_by_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["subject.id"], name="fk_transformation_owner_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["transformation.id"], name="fk_transformation_parent_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["representation_id"],
            ["representation.id"],
            name="fk_transformation_representation_id",
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(["roi_id"], ["roi.id"], name="fk_transformation_roi_id", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["team_id"], ["team.id"], name="fk_transformation_team_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transformation")),
    )
    op.create_index("ix_transformation_created_by_id", "transformation", ["created_by_id"], unique=False)
    op.create_index(
        "ix_transformation_name_id_deleted_at", "transformation", ["name", "id", "deleted_at"], unique=False
    )
    op.create_index("ix_transformation_owner_id", "transformation", ["owner_id"], unique=False)
    op.create_index("ix_transformation_parent_id", "transformation", ["parent_id"], unique=False)
    op.create_index(
        "ix_transformation_representation_id", "transformation", ["representation_id"], unique=False
    )
    op.create_index("ix_transformation_roi_id", "transformation", ["roi_id"], unique=False)
    op.create_index("ix_transformation_team_id", "transformation", ["team_id"], unique=False)
    op.create_index(
        "ix_transformation_trash",
        "transformation",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
