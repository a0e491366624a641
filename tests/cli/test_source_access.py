"""Which credentials reach the daemon for which scheme, and what is said of the others."""

from pathlib import Path

import pytest
import trustme

from dragonfly.cli.dfget.source_access import directory_url, is_directory
from dragonfly.errors import InvalidUrl
from tests.cli.desk import Desk

STORAGE = {
    "region": "eu", "endpoint": "https://store.test", "access-key-id": "id", "access-key-secret": "key",
    "security-token": "st", "session-token": "token", "credential-path": "/c", "predefined-acl": "private",
}  # fmt: skip


@pytest.mark.parametrize("scheme", ["s3", "gs", "abs", "oss", "obs", "cos", "S3"])
def test_an_object_stores_access_goes_into_its_message(desk: Desk, scheme: str) -> None:
    flags = [word for name, value in STORAGE.items() for word in (f"--storage-{name}", value)]
    ended = desk.run(*flags, "--storage-insecure-skip-verify", "true", url=f"{scheme}://bucket/key")
    assert ended.status == 0
    assert "no effect" not in ended.err
    told = {field.name: value for field, value in desk.asked.object_storage.ListFields()}
    assert told == {**{name.replace("-", "_"): value for name, value in STORAGE.items()}, "insecure_skip_verify": True}


def test_the_message_of_the_scheme_is_there_with_nothing_said(desk: Desk) -> None:
    desk.run(url="s3://bucket/key")
    assert desk.asked.HasField("object_storage")
    desk.run("--overwrite")
    messages = ("object_storage", "hdfs", "hugging_face", "model_scope")
    assert not any(desk.asked.HasField(name) for name in messages)  # type: ignore[arg-type]


def test_hubs_have_a_revision_of_their_own(desk: Desk) -> None:
    desk.run("--hf-token", "secret", url="hf://owner/repo/file")
    told = desk.asked.hugging_face
    assert (told.revision, told.token, told.HasField("base_url")) == ("main", "secret", False)
    desk.run("--ms-revision", "v1", "--ms-base-url", "https://hub.test", "--overwrite", url="modelscope://owner/r/file")
    assert (desk.asked.model_scope.revision, desk.asked.model_scope.base_url) == ("v1", "https://hub.test")
    desk.run("--hdfs-delegation-token", "secret", "--overwrite", url="hdfs://node/file")
    assert desk.asked.hdfs.delegation_token == "secret"


def test_flags_of_another_scheme_are_told_and_not_sent(desk: Desk) -> None:
    ended = desk.run("--storage-region", "eu", "--hf-token", "secret")
    assert ended.status == 0
    assert ended.err.startswith("dfget: --storage-region, --hf-token have no effect on http URLs\n")
    assert not desk.asked.HasField("object_storage")
    assert "--hdfs-delegation-token has no effect on s3 URLs" in desk.run(
        "--hdfs-delegation-token", "x", "--overwrite", url="s3://bucket/key"
    ).err  # fmt: skip


def test_variables_serve_the_schemes_they_are_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFGET_STORAGE_REGION", "eu")
    monkeypatch.setenv("DFGET_STORAGE_INSECURE_SKIP_VERIFY", "1")
    monkeypatch.setenv("DFGET_HF_TOKEN", "")
    assert "no effect" not in desk.run().err
    desk.run("--overwrite", url="s3://bucket/key")
    assert (desk.asked.object_storage.region, desk.asked.object_storage.insecure_skip_verify) == ("eu", True)
    desk.run("--overwrite", url="hf://owner/repo/file")
    assert not desk.asked.hugging_face.HasField("token")


def test_certificates_of_a_pem_file_are_sent_as_der(desk: Desk, tmp_path: Path) -> None:
    authorities = [trustme.CA(), trustme.CA()]
    pem = tmp_path / "ca.pem"
    pem.write_bytes(
        b"".join(authority.private_key_pem.bytes() + authority.cert_pem.bytes() for authority in authorities)
    )
    assert desk.run("--certificate", str(pem), "--insecure-skip-verify").status == 0
    assert desk.asked.insecure_skip_verify
    sent = desk.asked.certificate_chain
    assert len(sent) == 2
    assert all(certificate.startswith(b"\x30\x82") for certificate in sent)


def test_a_broken_certificate_is_told(desk: Desk, tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n")
    ended = desk.run("--certificate", str(pem))
    assert (ended.status, ended.err) == (2, f"dfget: --certificate: {pem} holds a certificate that is broken\n")


def test_a_slash_goes_to_the_end_of_the_path_and_nowhere_else() -> None:
    assert directory_url("s3://bucket") == "s3://bucket/"
    assert directory_url("http://h/a%2Fb?x=/#y") == "http://h/a%2Fb/?x=/#y"
    assert directory_url("http://h/a/?x=1") == "http://h/a/?x=1"
    assert is_directory("s3://bucket/a/?x")
    assert not is_directory("https://h/a/")
    with pytest.raises(InvalidUrl):
        directory_url("http://[h/a")
