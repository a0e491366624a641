"""The service on the unix socket, for dfget and other programs on this machine (dfdaemon.v2.DfdaemonDownload)."""

import asyncio
import logging
from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from dragonfly.core.model.ids import TaskKey, public_task
from dragonfly.core.model.ranges import ByteRange
from dragonfly.dfdaemon import answers, output
from dragonfly.dfdaemon.counting import CountedDownload, counted
from dragonfly.dfdaemon.engine import Engine, Seat
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.dfdaemon.scheduler_link import SchedulerLink
from dragonfly.errors import (
    ContentDigestMismatch,
    DownloadForbidden,
    NoSourceAllowed,
    SchedulerUnreachable,
    TaskNotFound,
)
from dragonfly.net.grpc_server import Context
from dragonfly.source.protocol import SourceRequest
from dragonfly.storage.store import TaskStore
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2, scheduler_pb2
from dragonfly.wire.pb.dfdaemon_pb2_grpc import DfdaemonDownloadServicer

log = logging.getLogger(__name__)


class DownloadService(DfdaemonDownloadServicer):
    """What is not here yet answers UNIMPLEMENTED."""

    def __init__(self, engine: Engine, schedulers: SchedulerLink) -> None:
        self._engine, self._schedulers = engine, schedulers

    async def DownloadTask(
        self, request: dfdaemon_pb2.DownloadTaskRequest, context: Context
    ) -> AsyncIterator[dfdaemon_pb2.DownloadTaskResponse]:
        """Started, each piece as it comes, and a clean end once the output stands where it was wanted."""
        wanted = DownloadRequest.from_wire(request.download)
        if wanted.output is not None:
            await asyncio.to_thread(output.check, wanted.output)
        with counted(self._engine.metrics, wanted) as download:
            async for response in self._download(wanted, download):
                yield response

    async def _download(
        self, wanted: DownloadRequest, download: CountedDownload
    ) -> AsyncIterator[dfdaemon_pb2.DownloadTaskResponse]:
        is_second = False
        while True:
            seat = await self._engine.join(wanted)
            try:
                async for response in answers.follow(self._engine, seat, wanted, download):
                    yield response
                await self._deliver(seat, wanted)
                return
            except (NoSourceAllowed, DownloadForbidden):
                if seat.flight.request is wanted:  # else it failed by the terms of another caller: try on our own
                    raise
            except TaskNotFound:  # somebody deleted or changed the copy this moment; content is not sent twice
                if is_second or wanted.wants_content:
                    raise
                is_second = True
            finally:
                self._engine.leave(seat)

    async def _deliver(self, seat: Seat, wanted: DownloadRequest) -> None:
        if wanted.digest is None and wanted.output is None:
            return
        loop, engine, key = asyncio.get_running_loop(), self._engine, seat.flight.key
        try:
            await loop.run_in_executor(engine.output_threads, _put, engine.store, key, seat.span, wanted)
        except FileNotFoundError:
            raise TaskNotFound(task_id=key.wire_id) from None
        except ContentDigestMismatch:
            await engine.delete(key)  # it would be wrong for ever, here and for our children
            raise

    async def ListTaskEntries(
        self, request: dfdaemon_pb2.ListTaskEntriesRequest, context: Context
    ) -> dfdaemon_pb2.ListTaskEntriesResponse:
        """What lies below a URL at its origin."""
        source = SourceRequest(
            url=request.url,
            headers=dict(request.request_header),
            insecure_skip_verify=request.insecure_skip_verify,
            certificate_chain=tuple(request.certificate_chain),
        )
        entries = await self._engine.entries(source)
        return dfdaemon_pb2.ListTaskEntriesResponse(
            entries=(
                dfdaemon_pb2.Entry(
                    url=entry.url,
                    is_dir=entry.is_directory,
                    content_length=entry.content_length or 0,
                    length_unknown=entry.content_length is None,
                )
                for entry in entries
            )
        )

    async def StatTask(self, request: dfdaemon_pb2.StatTaskRequest, context: Context) -> common_pb2.Task:
        """The scheduler's view of a task."""
        public_task(request.task_id)
        host_id = self._engine.identity.host_id
        return await self._schedulers.stat_task(scheduler_pb2.StatTaskRequest(host_id=host_id, task_id=request.task_id))

    async def StatLocalTask(
        self, request: dfdaemon_pb2.StatLocalTaskRequest, context: Context
    ) -> dfdaemon_pb2.StatLocalTaskResponse:
        """What is stored here of a task."""
        return await answers.stat_local_task(self._engine, request.task_id)

    async def ListLocalTasks(
        self, request: dfdaemon_pb2.ListLocalTasksRequest, context: Context
    ) -> dfdaemon_pb2.ListLocalTasksResponse:
        """Everything stored here."""
        stored = await asyncio.to_thread(self._engine.store.tasks)
        return dfdaemon_pb2.ListLocalTasksResponse(tasks=[answers.local_task(task) for task in stored])

    async def DeleteTask(self, request: dfdaemon_pb2.DeleteTaskRequest, context: Context) -> Empty:
        """Forget a task here, and that we hold it at the scheduler."""
        await answers.delete_local_task(self._engine, request.task_id)
        host_id = self._engine.identity.host_id
        try:
            await self._schedulers.delete_task(
                scheduler_pb2.DeleteTaskRequest(host_id=host_id, task_id=request.task_id)
            )
        except (SchedulerUnreachable, TaskNotFound) as error:  # it finds out when a child asks us in vain
            log.info("deleting task %s: %s", request.task_id, error)
        return Empty()

    async def DeleteLocalTask(self, request: dfdaemon_pb2.DeleteLocalTaskRequest, context: Context) -> Empty:
        """Forget a task here."""
        await answers.delete_local_task(self._engine, request.task_id)
        return Empty()

    async def DeleteHost(self, request: Empty, context: Context) -> Empty:
        """Tell every scheduler that this host leaves; the next announcement brings it back."""
        await self._schedulers.delete_host(self._engine.identity.host_id)
        return Empty()


def _put(store: TaskStore, key: TaskKey, span: ByteRange | None, wanted: DownloadRequest) -> None:
    """Check the content's digest and put it where the caller wants it, while nobody may evict it. Blocking."""
    with store.pin(key):
        content = store.content_path(key, span)
        if wanted.digest is not None:
            output.verify(content, wanted.digest)
        if wanted.output is not None:
            output.deliver(content, wanted.output, span)
