"""The servers that other tests stand on are real: they keep, refuse and forget as theirs do in production."""

import psycopg
import pytest


def plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def test_postgres_answers_with_a_current_version(postgres_url):
    with psycopg.connect(plain(postgres_url)) as connection:
        assert connection.info.server_version >= 180000
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)


def test_postgres_refuses_a_wrong_password(postgres_url):
    wrong = plain(postgres_url).replace("larvik:", "larvik:wrong-", 1)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


@pytest.mark.parametrize("_turn", [1, 2])
def test_every_test_begins_with_an_empty_postgres_database(postgres_url, _turn):
    with psycopg.connect(plain(postgres_url)) as connection:
        connection.execute("CREATE TABLE mark (turn int)")


def test_a_database_is_copied_from_a_template_with_its_rows(postgres_server, postgres_url):
    with psycopg.connect(plain(postgres_url)) as connection:
        connection.execute("CREATE TABLE mark AS SELECT 7 AS turn")
    copy = postgres_server.create_database(template=postgres_url)
    try:
        with psycopg.connect(plain(copy)) as connection:
            assert connection.execute("SELECT turn FROM mark").fetchall() == [(7,)]
    finally:
        postgres_server.drop_database(copy)


def open_s3(location):
    import s3fs

    return s3fs.S3FileSystem(
        key=location.options["key"],
        secret=location.options["secret"],
        endpoint_url=location.options["endpoint_url"],
        skip_instance_cache=True,
    )


def test_s3_keeps_bytes_and_serves_ranges_of_them(s3_url):
    files = open_s3(s3_url)
    files.pipe_file(f"{s3_url.url}/array/c/0", bytes(range(200)))
    assert files.cat_file(f"{s3_url.url}/array/c/0", start=10, end=13) == b"\x0a\x0b\x0c"


@pytest.mark.parametrize("_turn", [1, 2])
def test_every_test_begins_with_an_empty_s3_prefix(s3_url, _turn):
    files = open_s3(s3_url)
    assert files.find(s3_url.url) == []
    files.pipe_file(f"{s3_url.url}/mark", b"1")


def test_s3_refuses_a_wrong_secret(s3_server, s3_url):
    wrong = s3_server.location(s3_url.bucket, account=type(s3_server.writer)("writer", "wrong"))
    with pytest.raises((PermissionError, OSError)):
        open_s3(wrong).pipe_file(f"{wrong.url}/mark", b"1")


def test_s3_refuses_a_write_of_the_read_only_account(s3_server, s3_url):
    open_s3(s3_url).pipe_file(f"{s3_url.url}/mark", b"1")
    reader = open_s3(s3_server.location(s3_url.bucket, account=s3_server.reader))
    assert reader.cat_file(f"{s3_url.url}/mark") == b"1"
    with pytest.raises(PermissionError):
        reader.pipe_file(f"{s3_url.url}/mark", b"2")


def test_a_bucket_of_the_tests_own_can_vanish(s3_server, s3_bucket):
    s3_server.client().delete_bucket(Bucket=s3_bucket.bucket)
    with pytest.raises(FileNotFoundError):
        open_s3(s3_bucket).pipe_file(f"{s3_bucket.url}/mark", b"1")


def test_a_free_port_can_be_listened_on(free_port):
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port))
        listener.listen()


def write_image(folder, *, version, level="0"):
    import zarr

    multiscale = {
        "axes": [{"name": name, "type": "space"} for name in "yx"],
        "datasets": [
            {"path": level, "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]},
        ],
    }
    if version == "0.5":
        root = zarr.create_group(
            folder, zarr_format=3, attributes={"ome": {"version": version, "multiscales": [multiscale]}}
        )
        root.create_array("0", shape=(4, 4), dtype="uint8", dimension_names=["y", "x"])
    else:
        root = zarr.create_group(
            folder, zarr_format=2, attributes={"multiscales": [{**multiscale, "version": version}]}
        )
        root.create_array("0", shape=(4, 4), dtype="uint8")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_models_accepts_an_image(ome_zarr_model, tmp_path, version):
    write_image(tmp_path / "image.ome.zarr", version=version)
    assert ome_zarr_model(tmp_path / "image.ome.zarr") == "Image"


def test_ome_zarr_models_refuses_a_level_that_is_not_there(ome_zarr_model, tmp_path):
    write_image(tmp_path / "image.ome.zarr", version="0.5", level="1")
    with pytest.raises(AssertionError, match="refuses"):
        ome_zarr_model(tmp_path / "image.ome.zarr")


def test_bioformats_reads_an_image_and_refuses_what_is_none(bioformats, tmp_path):
    made = tmp_path / "cells&sizeX=32&sizeY=16&sizeZ=3&sizeC=2&pixelType=uint16.fake"
    made.touch()
    told = bioformats("ImageInfo", "-nopix", made)
    assert "SizeZ = 3" in told
    assert "Pixel type = uint16" in told
    with pytest.raises(AssertionError, match="failed"):
        bioformats("ImageInfo", "-nopix", tmp_path / "missing.tiff")


def test_a_file_of_tests_can_share_a_database_and_a_prefix(
    module_postgres_url, module_s3, postgres_url, s3_url
):
    with psycopg.connect(plain(module_postgres_url)) as connection:
        assert connection.execute("SELECT current_database()").fetchone() != (
            postgres_url.rpartition("/")[2],
        )
    assert module_s3.url != s3_url.url
    assert open_s3(module_s3).find(module_s3.url) == []
