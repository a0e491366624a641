"""Our gRPC server as its callers see it: health, reflection, statuses, the end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from dragonfly.errors import InvalidDigest, ServiceError, SourceNotFound, SourceUnreachable
from dragonfly.net.grpc_client import open_channel, remote_error
from dragonfly.net.grpc_server import GrpcServer
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2, dfdaemon_pb2_grpc

NAME = "dfdaemon.v2.DfdaemonUpload"


class Troubled(dfdaemon_pb2_grpc.DfdaemonUploadServicer):
    """Every call fails in its own way."""

    async def StatTask(self, request: dfdaemon_pb2.StatTaskRequest, context: Any) -> common_pb2.Task:
        if request.task_id == "bug":
            raise ZeroDivisionError("secret detail")
        raise SourceNotFound(url="http://o/f", status=404)

    async def SyncPieces(
        self, request: dfdaemon_pb2.SyncPiecesRequest, context: Any
    ) -> AsyncIterator[dfdaemon_pb2.SyncPiecesResponse]:
        yield dfdaemon_pb2.SyncPiecesResponse(number=7)
        raise InvalidDigest(text="x", reason="because")


@pytest.fixture
async def address() -> AsyncIterator[str]:
    server = GrpcServer(service_names=[NAME])
    dfdaemon_pb2_grpc.add_DfdaemonUploadServicer_to_server(Troubled(), server.server)
    port = server.listen("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.fixture
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(address) as made:
        yield made


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_error_of_ours_arrives_as_itself(channel: grpc.aio.Channel) -> None:
    error = await failure(dfdaemon_pb2_grpc.DfdaemonUploadStub(channel).StatTask(dfdaemon_pb2.StatTaskRequest()))
    arrived = remote_error(error, unreachable=ServiceError(reason="unreachable"))
    assert isinstance(arrived, SourceNotFound)
    assert str(arrived) == "the origin has no such file: http://o/f answered 404"


async def test_bug_is_an_internal_failure_without_its_details(channel: grpc.aio.Channel) -> None:
    call = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel).StatTask(dfdaemon_pb2.StatTaskRequest(task_id="bug"))
    error = await failure(call)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (error.details() or "")


async def test_stream_delivers_what_came_before_its_error(channel: grpc.aio.Channel) -> None:
    answers = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel).SyncPieces(dfdaemon_pb2.SyncPiecesRequest())
    assert (await anext(aiter(answers))).number == 7
    assert (await failure(anext(aiter(answers)))).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_call_nobody_wrote_is_unimplemented_and_named(channel: grpc.aio.Channel) -> None:
    stub = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel)
    error = await failure(stub.DeletePersistentTask(dfdaemon_pb2.DeletePersistentTaskRequest()))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error.details() == "DeletePersistentTask is not supported yet"


async def test_streaming_call_nobody_wrote_is_unimplemented(channel: grpc.aio.Channel) -> None:
    answers = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel).SyncHost(dfdaemon_pb2.SyncHostRequest())
    assert (await failure(anext(aiter(answers)))).code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("service", ["", NAME])
async def test_health_is_serving_by_name_and_in_all(channel: grpc.aio.Channel, service: str) -> None:
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_services(address: str) -> None:
    def services() -> list[str]:
        with grpc.insecure_channel(address) as channel:
            return list(ProtoReflectionDescriptorDatabase(channel).get_services())

    assert NAME in await asyncio.to_thread(services)


async def test_taken_port_is_told_in_one_sentence(address: str) -> None:
    with pytest.raises(ServiceError, match=f"cannot listen on {address}"):
        GrpcServer(service_names=[]).listen(address)


async def test_nobody_there_is_unreachable() -> None:
    async with open_channel("127.0.0.1:1") as channel:
        error = await failure(dfdaemon_pb2_grpc.DfdaemonUploadStub(channel).StatTask(dfdaemon_pb2.StatTaskRequest()))
    unreachable = SourceUnreachable(url="u", reason="r")
    assert remote_error(error, unreachable=unreachable) is unreachable


class Slow(dfdaemon_pb2_grpc.DfdaemonUploadServicer):
    """A call that takes its time, and says when it began and when it was done."""

    def __init__(self) -> None:
        self.begun, self.may_go_on, self.done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def StatTask(self, request: dfdaemon_pb2.StatTaskRequest, context: Any) -> common_pb2.Task:
        self.begun.set()
        await self.may_go_on.wait()
        self.done.set()
        return common_pb2.Task()


async def test_call_whose_caller_gives_up_is_carried_out_to_its_end() -> None:
    slow, server = Slow(), GrpcServer(service_names=[NAME])
    dfdaemon_pb2_grpc.add_DfdaemonUploadServicer_to_server(slow, server.server)
    port = server.listen("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(30):
        call = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel).StatTask(dfdaemon_pb2.StatTaskRequest())
        waiting = asyncio.ensure_future(call)
        await slow.begun.wait()
        call.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        slow.may_go_on.set()
        await slow.done.wait()
    await server.stop(0)
