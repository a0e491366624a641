"""Identifiers as the reference makes them: its own test vectors, so that both share tasks."""

import hashlib

import pytest

from dragonfly.core.model.ids import (
    blob_task_id,
    content_task_id,
    host_id,
    peer_id,
    persistent_cache_task_id,
    persistent_task_id,
    url_task_id,
)

URL = "https://example.com"
BARE = "457b4328cde278e422c9e243f7bfd1e97f511fec43a80f535cf6b0ef6b086776"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (
            {"tag": "foo", "application": "bar", "revision": "v1.0", "piece_length": 1024},
            "5844f27a257287e9b734256bb25603d8005422ced8c0377f15063ec11963b25f",
        ),
        ({"tag": "foo", "application": "bar"}, "06408fbf247ddaca478f8cb9565fe5591c28efd0994b8fea80a6a87d3203c5ca"),
        ({"tag": "foo"}, "3c3f230ef9f191dd2821510346a7bc138e4894bee9aee184ba250a3040701d2a"),
        ({"application": "bar"}, "c9f9261b7305c24371244f9f149f5d4589ed601348fdf22d7f6f4b10658fdba2"),
        ({"piece_length": 1024}, "9f7c9aafbc6f30f8f41a96ca77eeae80c5b60964b3034b0ee43ccf7b2f9e52b8"),
        ({"revision": "v1.0"}, "b171331534b80e0bf91da38ebbfcdbf4d177898f4b9beac44f14733e3f004d4e"),
        ({}, BARE),
    ],
)
def test_standard_task_has_the_id_the_reference_gives_it(asked, expected):
    assert url_task_id(URL, **asked) == expected


def test_filtered_query_parameters_do_not_change_the_id():
    assert url_task_id(f"{URL}?foo=foo&bar=bar", filtered_query_params=["foo", "bar"]) == BARE


def test_task_named_by_a_text_has_that_texts_hash():
    expected = "e2d0fe1585a63ec6009c8016ff8dda8b17719a637405a4e23c0ff81339148249"
    assert content_task_id("This is a test file") == expected


def test_persistent_task_has_the_id_the_reference_gives_it():
    made = persistent_task_id("my-object-key", region="us-west-1", endpoint="https://s3.us-west-1.amazonaws.com")
    assert made == "b51f4f44921bb585277a5cbac13e7f6e2858238e98546f3ee6bfeb56369979c0"


def test_persistent_cache_task_has_the_id_the_reference_gives_it():
    made = persistent_cache_task_id(
        hashlib.sha256(b"This is a test file"), tag="tag1", application="app1", piece_length=1024
    )
    assert made == "7160a071a9acea5ac341e770c14d0211c38a4b15b3bbe2c5f848a706fd47419e"


def test_image_blob_is_named_by_its_digest():
    digest = "ab" * 32
    assert blob_task_id(f"https://registry.example/v2/library/nginx/blobs/sha256:{digest}?ns=docker.io") == digest


@pytest.mark.parametrize(
    "url",
    [
        "https://registry.example/v2/library/nginx/manifests/latest",
        "https://registry.example/v2/library/nginx/blobs/sha256:" + "ab" * 31,
        "https://registry.example/v2/library/nginx/blobs/sha256:" + "AB" * 32,
        "https://registry.example/v2/library/nginx/blobs/sha512:" + "ab" * 64,
        "https://registry.example/v2/library/nginx/blobs/sha256:" + "ab" * 32 + "/x",
        "registry.example/v2/library/nginx/blobs/sha256:" + "ab" * 32,
    ],
)
def test_url_without_a_sha256_blob_names_no_blob(url):
    assert blob_task_id(url) is None


def test_hosts_and_peers_are_named_by_address_and_name():
    assert host_id("10.0.0.1", "node-7") == "10.0.0.1-node-7"
    assert host_id("10.0.0.1", "node-7", is_seed=True) == "10.0.0.1-node-7-seed"
    assert peer_id("10.0.0.1", "node-7", "u-u-i-d") == "10.0.0.1-node-7-u-u-i-d"
    assert peer_id("10.0.0.1", "node-7", "u-u-i-d", is_seed=True) == "10.0.0.1-node-7-u-u-i-d-seed"
