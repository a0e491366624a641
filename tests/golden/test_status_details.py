"""A failure at the origin as the reference's tools read it, and as the reference's daemons write it."""

import json

import grpc

from dragonfly.errors import SourceForbidden, SourceNotFound
from dragonfly.wire.status import grpc_status, restored_error


def test_origin_failure_carries_json_of_backend_in_the_details():
    status = grpc_status(SourceNotFound(url="https://example.com/x", status=404, header={"Server": "nginx"}))
    fields = dict(status.trailing_metadata)
    assert status.code is grpc.StatusCode.INTERNAL
    assert json.loads(fields["grpc-status-details-bin"]) == {
        "message": "the origin has no such file: https://example.com/x answered 404",
        "header": {"Server": "nginx"},
        "status_code": 404,
    }


def test_origin_failure_of_a_reference_daemon_is_understood():
    details = b'{"message":"request failed","header":{"www-authenticate":"Bearer"},"status_code":401}'
    error = restored_error(grpc.StatusCode.INTERNAL, "backend error", [("grpc-status-details-bin", details)])
    assert type(error) is SourceForbidden
    assert str(error) == "backend error"
    assert error.facts == {"status": 401, "header": {"www-authenticate": "Bearer"}}
