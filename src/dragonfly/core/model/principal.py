"""On whose behalf something is done. Resolved at the shells only; every core key carries its scope."""

from dataclasses import dataclass
from typing import NewType

TenantScope = NewType("TenantScope", str)
PUBLIC_SCOPE = TenantScope("")  # tasks of the public tenant carry the reference's own task ids


@dataclass(frozen=True, slots=True)
class Principal:
    """A tenant and the application that acts for it. The empty tenant is the public one."""

    tenant: str = ""
    application: str = ""

    @property
    def scope(self) -> TenantScope:
        """What separates this principal's tasks from those of other tenants."""
        return TenantScope(self.tenant)


PUBLIC = Principal()
