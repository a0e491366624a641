"""The daemon, put together: read `start` from top to bottom."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from threading import Event as Flag

from dragonfly import __version__
from dragonfly.core.model.ids import PeerId, TaskKey
from dragonfly.core.model.piece import PieceNumber
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.transfer import commands as do
from dragonfly.core.transfer.download import DownloadTerms
from dragonfly.core.transfer.eviction import Eviction
from dragonfly.dfdaemon import dynconfig, local_socket, this_host
from dragonfly.dfdaemon.announcer import HostAnnouncer, SeedPeerRegistration, held_tasks
from dragonfly.dfdaemon.background import Background
from dragonfly.dfdaemon.counting import CallCounter
from dragonfly.dfdaemon.doubts import Doubts, tell
from dragonfly.dfdaemon.dynconfig import SchedulerAddresses
from dragonfly.dfdaemon.engine import Engine, EnginePolicy
from dragonfly.dfdaemon.flight import Flight, FlightDeck
from dragonfly.dfdaemon.gc import Collector
from dragonfly.dfdaemon.limits import BandwidthLimits, Pace
from dragonfly.dfdaemon.parents import ParentWatch
from dragonfly.dfdaemon.pieces.client import PieceClient
from dragonfly.dfdaemon.pieces.server import PieceServer
from dragonfly.dfdaemon.pieces.tls import PieceTls
from dragonfly.dfdaemon.registration import registration
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.dfdaemon.rpc_download import DownloadService
from dragonfly.dfdaemon.rpc_upload import UploadService
from dragonfly.dfdaemon.scheduler_link import SchedulerLink
from dragonfly.dfdaemon.settings import DaemonSettings
from dragonfly.dfdaemon.status import StatusPages
from dragonfly.dfdaemon.talk import Talk
from dragonfly.dfdaemon.this_host import ThisHost
from dragonfly.net.channels import ChannelPool
from dragonfly.net.grpc_server import GrpcServer
from dragonfly.settings.values import joined_address
from dragonfly.source.http_address import shown
from dragonfly.source.protocol import SourceStat
from dragonfly.source.schemes import Sources
from dragonfly.storage.disk import DiskStore
from dragonfly.telemetry.metrics import DaemonMetrics
from dragonfly.wire.convert import host_to_pb
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2
from dragonfly.wire.pb.dfdaemon_pb2_grpc import (
    add_DfdaemonDownloadServicer_to_server,
    add_DfdaemonUploadServicer_to_server,
)
from dragonfly.wire.transfer import PeerMessages

log = logging.getLogger(__name__)

SOURCE_TIMEOUT: Seconds = 60.0  # for each silence of an origin that is being read
HEADER_TIMEOUT: Seconds = 60.0  # a parent that announced a piece has it; upstream waits 360 s


class DaemonService:
    """One dfdaemon. `start` returns once it serves; `stop` undoes what was started, in reverse."""

    def __init__(self, settings: DaemonSettings) -> None:
        self._settings = settings
        self._identity = this_host.identity(settings)
        self._running = AsyncExitStack()
        self._background = Background()
        self._is_serving = False

    async def start(self) -> None:
        """Raises ServiceError or StorageError, in one sentence, where an address or the disk is not ours to use."""
        settings, running = self._settings, self._running
        self._loop = asyncio.get_running_loop()
        self._channels = ChannelPool()
        running.push_async_callback(self._channels.close)
        self._store = await asyncio.to_thread(
            DiskStore,
            settings.storage.dir,
            keep=settings.storage.keep,
            hashes_leaves=settings.storage.piece_digest == "blake3",
            file_mode=settings.storage.file_mode,
            directory_mode=settings.storage.directory_mode,
        )
        running.push_async_callback(asyncio.to_thread, self._store.close)
        self._metrics = metrics = DaemonMetrics(version=__version__)
        self._limits = BandwidthLimits(
            download=settings.download.bandwidth_limit,
            back_to_source=settings.download.back_to_source_bandwidth_limit,
            prefetch=settings.proxy.prefetch_bandwidth_limit,
            upload=settings.upload.bandwidth_limit,
        )
        self._piece_tls = PieceTls.of(settings.storage.server.tls)
        listen = settings.storage.server
        pieces = PieceServer(
            self._store,
            ip=listen.ip,
            port=listen.tcp_port,
            max_connections=listen.max_connections,
            max_connections_per_address=listen.max_connections_per_address,
            on_upload=lambda _, length: metrics.piece_uploaded(length),
            grant=None if self._limits.upload.is_unlimited else self._grant_upload,
            tls=self._piece_tls,
        )
        piece_port = await asyncio.to_thread(pieces.start)
        running.push_async_callback(asyncio.to_thread, pieces.stop)

        addresses = SchedulerAddresses(self._lookup(), settings.dynconfig.refresh_interval)
        announce_interval = settings.scheduler.announce_interval
        self._schedulers = SchedulerLink(
            addresses,
            self._describe,
            self._channels,
            announce_interval,
            lambda: held_tasks(self._store),
            self._fetch_for_swarm if self._identity.is_seed else None,
        )
        running.push_async_callback(self._schedulers.close)
        self._collector = Collector(self._store, settings.gc.policy, settings.gc.interval, self._evicted)
        announcer = HostAnnouncer(self._schedulers, announce_interval)
        addresses.on_change = announcer.wake
        self._engine = engine = self._make_engine()

        upload = GrpcServer(service_names=["dfdaemon.v2.DfdaemonUpload"], observe=CallCounter(metrics))
        self.upload_port = upload.listen(joined_address(settings.upload.server.ip, settings.upload.server.port))
        self._host = ThisHost(settings, self._identity, self.upload_port, piece_port)
        self._doubts = Doubts(self._store, self._drop_broken)
        share_unversioned = settings.upload.share_unversioned
        self._uploads = UploadService(engine, piece_port, self._describe, self._doubted, share_unversioned)
        add_DfdaemonUploadServicer_to_server(self._uploads, upload.server)
        socket_path = settings.download.server.socket_path
        download = GrpcServer(service_names=["dfdaemon.v2.DfdaemonDownload"], observe=CallCounter(metrics))
        download.listen(local_socket.prepare(socket_path))
        running.callback(local_socket.remove, socket_path)
        add_DfdaemonDownloadServicer_to_server(DownloadService(engine, self._schedulers), download.server)

        status = StatusPages(metrics, self._store, pieces, lambda: self._is_serving)
        running.push_async_callback(status.stop)
        await status.serve(settings.health.server)
        self.metrics_port = await status.serve(settings.metrics.server)
        for server in (upload, download):
            await server.start()
            running.push_async_callback(server.stop)
        local_socket.open_to_users(socket_path)
        running.push_async_callback(engine.stop)

        await addresses.refresh()
        running.push_async_callback(self._schedulers.delete_host, self._identity.host_id)
        self._background.start(addresses.run(), "find schedulers")
        self._background.start(announcer.run(), "announce this host")
        self._background.start(self._collector.run(), "collect garbage")
        self._stay_registered(self.upload_port)
        running.push_async_callback(self._background.end)
        self._is_serving = True
        log.info("dfdaemon %s serves as %s", __version__, self._identity.host_id)

    async def stop(self) -> None:
        self._is_serving = False
        await self._running.aclose()

    def _make_engine(self) -> Engine:
        settings = self._settings
        client = PieceClient(
            header_timeout=min(settings.download.piece_timeout, HEADER_TIMEOUT),
            body_timeout=settings.storage.write_piece_timeout,
            tls=self._piece_tls,
        )
        self._running.push_async_callback(asyncio.to_thread, client.close)
        bulk = ThreadPoolExecutor(settings.download.total_piece_count, thread_name_prefix="bulk")
        self._running.callback(bulk.shutdown, wait=False, cancel_futures=True)
        backend = settings.backend
        sources = Sources.standard(
            max_retries=backend.max_retries,
            request_header=backend.request_header,
            observe=self._observe_origin,
        )
        self._running.callback(sources.close)
        deck = FlightDeck(
            store=self._store,
            client=client,
            bulk=bulk,
            open_talk=self._open_talk,
            watch_parent=self._watch_parent,
            doubt=self._doubt,
            make_room=self._make_room_from_thread,
            metrics=self._metrics,
            pace=self._pace,
            source_timeout=min(settings.download.piece_timeout, SOURCE_TIMEOUT),
            compares_roots=settings.storage.piece_digest == "blake3",
        )
        policy = EnginePolicy(
            terms=self._terms,
            room_left=self._collector.room_left,
            make_room=self._collector.make_room,
            concurrent_task_count=settings.download.concurrent_task_count,
            serves_stale=settings.storage.serve_stale,
        )
        return Engine(self._identity, self._store, sources, deck, policy)

    async def _fetch_for_swarm(self, download: common_pb2.Download) -> None:
        await self._uploads.fetch(download)

    def _make_room_from_thread(self, needed: Bytes) -> bool:
        return asyncio.run_coroutine_threadsafe(self._collector.make_room(needed), self._loop).result()

    def _doubt(self, flight: Flight, parent_id: PeerId, number: PieceNumber) -> None:
        """Let a parent know that a piece it gave was wrong."""
        try:
            address = flight.host_of(parent_id).calls
        except LookupError:  # offered in an earlier conversation with the scheduler
            return
        host_id, task_id = self._identity.host_id, flight.key.wire_id
        request = dfdaemon_pb2.DoubtPieceRequest(host_id=host_id, task_id=task_id, number=number)
        self._background.start(tell(self._channels, address, request), f"doubt piece {number} of {parent_id}")

    def _doubted(self, task_id: str, number: PieceNumber) -> None:
        """A child says that a piece it got from here is wrong."""
        self._background.start(self._doubts.hear(task_id, number), f"look at piece {number} of task {task_id}")

    async def _drop_broken(self, key: TaskKey, number: PieceNumber) -> bool:
        """Delete a task that changed on the disk, and let the schedulers forget that this host holds it."""
        is_gone = await self._engine.delete_broken(key, number, lambda: self._schedulers.forget_task(key.wire_id))
        if is_gone:
            self._metrics.broke()
        return is_gone

    def _evicted(self, eviction: Eviction, given_back: Bytes) -> None:
        """Count it, and let the schedulers forget that this host holds the task."""
        self._metrics.evicted(eviction.reason, given_back)
        wire_id = eviction.key.wire_id
        self._background.start(self._schedulers.forget_task(wire_id), f"forget {wire_id}")

    def _observe_origin(self, scheme: str, method: str, seconds: Seconds, failed: bool) -> None:
        self._metrics.origin_requested(scheme, method, seconds, failed=failed)

    def _grant_upload(self, key: TaskKey, wanted: Bytes) -> tuple[Bytes, Seconds]:
        grant = self._limits.upload.grant(key, wanted)
        return grant.count, grant.retry_in

    def _pace(self, flight: Flight, from_source: bool, stopped: Flag) -> Pace | None:
        is_prefetch = flight.request.is_prefetch
        return self._limits.pace_of(
            flight.key, from_source=from_source, is_prefetch=is_prefetch, stopped=stopped.is_set
        )

    def _terms(self, request: DownloadRequest, stat: SourceStat) -> DownloadTerms:
        settings = self._settings
        return DownloadTerms(
            url=shown(request.source.url),
            concurrent_piece_count=settings.download.concurrent_piece_count,
            max_schedule_count=settings.scheduler.max_schedule_count,
            silence_timeout=settings.download.collected_piece_timeout,
            back_to_source_allowed=not request.wire.disable_back_to_source,
            source_supports_ranges=stat.supports_ranges,
        )

    def _open_talk(self, flight: Flight) -> Talk:
        download = registration(
            flight.request,
            flight.span,
            flight.geometry,
            flight.generation,
            concurrent_piece_count=self._settings.download.concurrent_piece_count,
            is_seed=self._identity.is_seed,
        )
        messages = PeerMessages(self._identity.host_id, flight.key.wire_id, flight.peer_id, download)
        return Talk(self._schedulers, flight, messages, self._settings.scheduler.schedule_timeout)

    def _watch_parent(self, flight: Flight, command: do.WatchParent) -> ParentWatch:
        host, roots_count = flight.host_of(command.parent.peer_id), self._settings.storage.piece_digest == "blake3"
        return ParentWatch(
            flight, command.parent, host, self._channels, self._identity.host_id, roots_count=roots_count
        )

    def _describe(self) -> common_pb2.Host:
        return host_to_pb(self._host.describe())

    def _lookup(self) -> dynconfig.Lookup:
        settings = self._settings
        if settings.manager.addr is None:
            return dynconfig.from_file(settings.dynconfig.path)
        request = this_host.searching_schedulers(settings, self._identity)
        return dynconfig.from_manager(settings.manager.addr, self._channels, request)

    def _stay_registered(self, upload_port: int) -> None:
        """Keep a seed peer on the manager's list while this daemon runs."""
        settings = self._settings
        if settings.manager.addr is None or not self._identity.is_seed:
            return
        seed_peer = this_host.as_seed_peer(settings, self._identity, upload_port)
        membership = SeedPeerRegistration(settings.manager.addr, self._channels, seed_peer)
        self._running.push_async_callback(membership.leave)
        self._background.start(membership.run(), "stay registered as a seed peer")
