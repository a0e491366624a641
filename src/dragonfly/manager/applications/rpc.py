"""What schedulers ask about applications."""

from dragonfly.errors import RecordUnknown
from dragonfly.manager import inputs
from dragonfly.manager.applications.service import with_priority
from dragonfly.manager.db.session import Database
from dragonfly.manager.messages import application_to_pb
from dragonfly.wire.pb import manager_pb2


class ApplicationCalls:
    """The application part of manager.v2.Manager."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, request: manager_pb2.ListApplicationsRequest) -> manager_pb2.ListApplicationsResponse:
        """The applications that have a priority. As upstream, NOT_FOUND where there is none."""
        inputs.hostname(request.hostname)
        inputs.caller_ip(request.ip)
        async with self._database.reading() as session:
            applications = await with_priority(session)
        if not applications:
            raise RecordUnknown(noun="application", name="with a priority")
        return manager_pb2.ListApplicationsResponse(applications=[application_to_pb(each) for each in applications])
