"""The download of a directory: list it, skip what is here, and fetch the rest, several files at once.

    ListTaskEntries, level by level -> files with plain names (listing.py) -> those not here yet -> one DownloadTask
    each, through one channel and one event loop -> published one by one

Every file stands for itself: one that fails is tried again where that can help, told in one line, and holds up no
other. Files appear whole or not at all, so a file that is there with the length of the listing, or where the listing
tells none, was finished before and is skipped: that is how a download that broke off goes on. `--overwrite` fetches all
again.
"""

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dragonfly.cli.daemon_socket import CONNECT_TIMEOUT, see_daemon
from dragonfly.cli.dfget import report, source_access
from dragonfly.cli.dfget.account import Account
from dragonfly.cli.dfget.arguments import Arguments
from dragonfly.cli.dfget.include import Include
from dragonfly.cli.dfget.listing import Entry, ListedFile, Listing
from dragonfly.cli.dfget.output import Draft
from dragonfly.cli.dfget.tree import Tree
from dragonfly.cli.exit_codes import ExitStatus, exit_status, worst
from dragonfly.cli.plain_text import plain, say
from dragonfly.cli.progress import Bar, Progress, Traffic, rate_and_split
from dragonfly.cli.stop_signals import Stopped, StopSignals
from dragonfly.core.model.units import Seconds
from dragonfly.errors import DaemonUnreachable, DeadlineExceeded, DragonflyError, InternalFailure, OutputExists

if TYPE_CHECKING:
    from dragonfly.cli.dfget.daemon_files import DaemonFiles
    from dragonfly.cli.dfget.received import Received
    from dragonfly.wire.pb.dfdaemon_pb2 import DownloadTaskResponse

RETRY_AFTER: tuple[Seconds, ...] = (0.5, 2.0)
"""Waits before the second and the third try of a file."""
_JSON_PROGRESS_EVERY: Seconds = 0.2


@dataclass(frozen=True, slots=True)
class _Failure:
    """A file that is not there at the end."""

    name: str
    error: DragonflyError

    def json(self) -> dict[str, object]:
        status = int(exit_status(self.error))
        return {"file": self.name, "error": self.error.code, "message": plain(str(self.error)), "exit_status": status}


class Directory:
    """One download of a directory, from its arguments to its summary."""

    def __init__(self, arguments: Arguments, signals: StopSignals) -> None:
        self._arguments, self._signals = arguments, signals
        self._begin = time.monotonic()
        self._told_at = self._begin
        self._progress = Progress()
        self._bar: Bar | None = None
        self._done = self._skipped = self._wanted = 0
        self._failures: list[_Failure] = []
        self._notices: set[str] = set()  # already said
        self._ended_by: DragonflyError | None = None  # what kept the rest from being tried

    def run(self) -> ExitStatus:
        """The worst status of all files, every failure told. Raises what keeps the whole from beginning."""
        with closing(Tree(self._arguments.output)) as tree:
            try:
                see_daemon(self._arguments.endpoint, min(CONNECT_TIMEOUT, self._arguments.timeout))
                stopped_by = self._run_loop(tree)
            except BaseException:
                tree.discard()
                raise
        self._signals.ignore()
        if stopped_by is not None:
            raise Stopped(stopped_by)
        return self._tell()

    def _run_loop(self, tree: Tree) -> int | None:
        """Runs until all is done; returns the number of the signal that ended it, if one did."""
        stopped_by: list[int] = []

        async def main() -> None:
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            assert task is not None

            def stop(number: int) -> None:
                stopped_by.append(number)
                loop.call_soon_threadsafe(task.cancel)

            with self._signals.told_to(stop):
                await self._download(tree)

        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            if not stopped_by:
                raise
        return stopped_by[0] if stopped_by else None

    async def _download(self, tree: Tree) -> None:
        from dragonfly.cli.dfget.daemon_files import DaemonFiles

        async with DaemonFiles(self._arguments) as daemon:
            try:
                async with asyncio.timeout(self._begin + self._arguments.timeout - time.monotonic()):
                    listing = await self._list(daemon)
                    await self._fetch_all(daemon, tree, self._plan(tree, listing))
            except TimeoutError:
                self._ended_by = DeadlineExceeded(seconds=f"{self._arguments.timeout:g}")
                if not self._wanted:
                    raise self._ended_by from None

    # --- what there is, and what is missing

    async def _list(self, daemon: "DaemonFiles") -> Listing:
        arguments = self._arguments
        listing = Listing(arguments.url, Include(arguments.include_files), arguments.max_files)
        following = [arguments.url]
        while following:
            url = source_access.directory_url(following.pop())
            found = await daemon.entries(url, str(uuid.uuid4()))
            following += listing.add(
                Entry(entry.url, None if entry.length_unknown else entry.content_length, entry.is_dir)
                for entry in found
            )
        return listing

    def _plan(self, tree: Tree, listing: Listing) -> list[ListedFile]:
        """The files to fetch. What cannot be one is a failure already."""
        for url, error in listing.refused:
            self._fail(url, error)
        if not self._arguments.include_files:
            self._make_directories(tree, listing)
        files = [file for file in listing.files.values() if self._is_missing(tree, file)]
        self._wanted = len(listing.files) + len(listing.refused)
        lengths = [file.length for file in files]
        total = None if None in lengths else sum(length or 0 for length in lengths)
        self._progress.started(total, time.monotonic())
        if not listing.files:
            say(f"there is no file to download in {self._arguments.url}")
        return files

    def _make_directories(self, tree: Tree, listing: Listing) -> None:
        for path in sorted(listing.directories):
            try:
                tree.make(path)
            except DragonflyError as error:
                self._fail(tree.name(path), error)

    def _is_missing(self, tree: Tree, file: ListedFile) -> bool:
        try:
            length = tree.length(file.path)
            if length is None or self._arguments.overwrite:
                return True
            if file.length is not None and length != file.length:
                raise OutputExists(path=tree.name(file.path))
        except DragonflyError as error:
            self._fail(tree.name(file.path), error)
            return False
        self._skipped += 1
        return False

    # --- fetching

    async def _fetch_all(self, daemon: "DaemonFiles", tree: Tree, files: list[ListedFile]) -> None:
        waiting = iter(files)
        with ExitStack() as stack:
            if report.shows_bar(no_progress=self._arguments.no_progress):
                self._bar = stack.enter_context(Bar(plain(self._arguments.output), self._progress, time.monotonic))
            async with asyncio.TaskGroup() as group:
                for number in range(min(self._arguments.max_concurrent_requests, len(files))):
                    group.create_task(self._work(daemon, tree, waiting), name=f"files {number}")

    async def _work(self, daemon: "DaemonFiles", tree: Tree, waiting: Iterator[ListedFile]) -> None:
        """One of those that take the next file when they have done with one."""
        for file in waiting:
            try:
                await self._try(daemon, tree, file)
                self._done += 1
            except DragonflyError as error:
                self._fail(tree.name(file.path), error)
                if isinstance(error, DaemonUnreachable):
                    self._ended_by = error
            except Exception as error:
                self._fail(tree.name(file.path), InternalFailure(reason=f"{type(error).__name__}: {error}"))
            self._show()
            if self._ended_by is not None:
                return

    async def _try(self, daemon: "DaemonFiles", tree: Tree, file: ListedFile) -> None:
        for wait in RETRY_AFTER:
            try:
                return await self._fetch(daemon, tree, file)
            except DragonflyError as error:
                if not error.retryable:
                    raise
            await asyncio.sleep(wait)
        return await self._fetch(daemon, tree, file)

    async def _fetch(self, daemon: "DaemonFiles", tree: Tree, file: ListedFile) -> None:
        draft = tree.draft(file.path, overwrite=self._arguments.overwrite)
        name = tree.name(file.path)
        try:
            draft.create()
            with ExitStack() as stack:
                account = Account(received=self._receive(stack, draft, name))
                path = None if self._arguments.transfer_from_dfdaemon else str(draft.path)
                await daemon.download(file.url, path, lambda answer: self._take(account, file, answer))
            tree.publish(draft, file.path, account.end())
        except DragonflyError as error:
            error.args = (str(error).replace(str(draft.path), name),)
            raise
        finally:
            draft.discard()

    def _receive(self, stack: ExitStack, draft: Draft, name: str) -> "Received | None":
        if not self._arguments.transfer_from_dfdaemon:
            return None
        from dragonfly.cli.dfget.received import Received

        return stack.enter_context(closing(Received(draft.path, name)))

    def _take(self, account: Account, file: ListedFile, answer: "DownloadTaskResponse") -> None:
        piece = account.take(answer)
        if piece is not None:
            key = (file.path, piece.number)
            self._progress.piece_finished(key, piece.length, Traffic(piece.traffic_type), time.monotonic())
            self._show()
        elif (notice := answer.download_task_started_response.notice) and notice not in self._notices:
            self._notices.add(notice)
            say(notice)

    # --- telling

    def _fail(self, name: str, error: DragonflyError) -> None:
        self._failures.append(_Failure(name, error))
        say(f"{name}: {error}")

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.moved()
        if self._arguments.json_progress:
            now = time.monotonic()
            if now - self._told_at >= _JSON_PROGRESS_EVERY:
                self._told_at = now
                rate = round(self._progress.rate(now))
                report.write_json({"progress": {**self._figures(now), "bytes_per_second": rate}})

    def _tell(self) -> ExitStatus:
        now, arguments = time.monotonic(), self._arguments
        status = worst([exit_status(failure.error) for failure in self._failures])
        if self._ended_by is not None:
            say(f"{self._ended_by}: {self._missing} of {self._wanted} files are missing")
            status = worst([status, exit_status(self._ended_by)])
        if not arguments.no_progress:
            report.write_summary(self._summary(now - self._begin))
        if arguments.json or arguments.json_progress:
            failures = [failure.json() for failure in self._failures]
            report.write_json({**self._figures(now), "failures": failures, "exit_status": int(status)})
        return status

    @property
    def _missing(self) -> int:
        return self._wanted - self._done - self._skipped

    def _summary(self, seconds: Seconds) -> str:
        """`out: 12 files, 1.0 GiB in 5.2 s, 197.0 MiB/s; 100 % from peers, …; 3 were here already; 1 failed`."""
        parts = [f"{self._arguments.output}: {self._done} {'file' if self._done == 1 else 'files'}, "]
        parts.append(rate_and_split(self._progress, self._progress.done, seconds))
        parts.append(f"; {self._skipped} were here already" if self._skipped else "")
        parts.append(f"; {self._missing} failed" if self._missing else "")
        return "".join(parts)

    def _figures(self, now: Seconds) -> dict[str, object]:
        return {
            "url": self._arguments.url,
            "output": self._arguments.output,
            "files": self._done,
            "files_skipped": self._skipped,
            "files_missing": self._missing,
            "seconds": round(now - self._begin, 3),
            **report.traffic(self._progress),
        }
