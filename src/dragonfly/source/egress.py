"""Where a daemon may connect to on somebody else's word.

A URL, a redirect and a name server are all written by others. So the question is asked of the address itself, after the
name is resolved and before the connection is made to exactly that address; a second look-up cannot change the answer.
"""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

IpAddress = IPv4Address | IPv6Address
EgressPolicy = Callable[[IpAddress], bool]
"""Whether a connection to this address is allowed. IPv4 inside IPv6 arrives unwrapped."""

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052


def off_link(address: IpAddress) -> bool:
    """Everything that is a place on a network: not link-local, where clouds hand out credentials."""
    return not (address.is_link_local or address.is_multicast or address.is_unspecified)


def public_only(address: IpAddress) -> bool:
    """Only what is routed on the internet: no loopback, no private network."""
    return address.is_global and not address.is_multicast


def unwrapped(text: str) -> IpAddress:
    """The address a socket address names; mapped, 6to4 and NAT64 spellings of IPv4 count as that IPv4 address."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
