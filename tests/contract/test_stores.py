"""The contract suite of stores, bound to the folder and to a real S3 server."""

from __future__ import annotations

import pytest

from larvik.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError
from larvik.storage import open_store
from larvik.testing.stores import CountingStore, StoreContract


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return open_store(str(tmp_path / "root"), create=True)


class TestCountingStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return CountingStore(open_store(str(tmp_path)))


class TestS3Store(StoreContract):
    @pytest.fixture
    def store(self, s3_url):
        return open_store(s3_url.url, **s3_url.options)

    def test_a_prefix_with_more_objects_than_a_page_is_deleted(self, s3_bucket):
        store = open_store(s3_bucket.url, **s3_bucket.options)
        for number in range(1010):
            store.write(f"many/{number}", b"x")
        assert sum(1 for _ in store.list("many")) == 1010
        assert store.delete_prefix("many") == 1010
        assert list(store.list()) == []

    def test_wrong_credentials_are_refused_and_named(self, s3_url):
        store = open_store(s3_url.url, **{**s3_url.options, "secret": "wrong"})
        for act in (lambda: store.read("a"), lambda: store.write("a", b""), lambda: list(store.list())):
            with pytest.raises(PermissionDeniedError, match="credentials") as caught:
                act()
            assert caught.value.reason == "STORE_DENIED"
            assert "wrong" not in str(caught.value)

    def test_a_read_only_account_cannot_write(self, s3_server, s3_url):
        if s3_server.reader == s3_server.writer:
            pytest.fail("LARVIK_TEST_S3 gives one account only")
        store = open_store(s3_url.url, **s3_server.location(s3_url.bucket, account=s3_server.reader).options)
        with pytest.raises(PermissionDeniedError):
            store.write("a", b"1")

    def test_a_missing_bucket_is_unreachable_not_empty(self, s3_url):
        store = open_store("s3://no-such-bucket-here/prefix", **s3_url.options)
        for act in (
            lambda: store.read("a"),
            lambda: store.size("a"),
            lambda: store.write("a", b"1"),
            lambda: list(store.list()),
            lambda: store.children(),
            lambda: store.delete_prefix("a"),
        ):
            with pytest.raises(UnavailableError) as caught:
                act()
            assert caught.value.reason == "STORE_UNREACHABLE"

    def test_a_server_that_is_not_there_is_unreachable(self, free_port, s3_url):
        options = {**s3_url.options, "endpoint_url": f"http://127.0.0.1:{free_port}", "timeout_s": 2.0}
        store = open_store(s3_url.url, **options)
        with pytest.raises(UnavailableError) as caught:
            store.read("a")
        assert caught.value.reason == "STORE_UNREACHABLE"

    def test_neither_its_repr_nor_its_url_shows_secrets(self, s3_url):
        store = open_store(s3_url.url, **s3_url.options)
        assert s3_url.options["secret"] not in repr(store) + store.url


@pytest.mark.parametrize("url", ["s3://", "http://host/x", "gs://bucket/x", "s3://bucket/../x"])
def test_a_url_that_is_no_store_is_refused(url):
    with pytest.raises(InvalidArgumentError):
        open_store(url)


def test_an_unknown_option_is_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match="colour"):
        open_store(str(tmp_path), colour="red")
