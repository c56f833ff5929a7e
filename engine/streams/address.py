"""Addresses of Redis: what each part and option means, as in redis-py.

`redis://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE`; `valkey://` is the same, `rediss://` and
`valkeys://` are over TLS, `unix:///PATH` is a socket of this machine, and `redis+cluster://` (also
with the other names) is a cluster, of which some nodes are named: `HOST:PORT,HOST:PORT`. No
message shows an address as it was given, since the password is in it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from engine.errors import ConfigurationError
from engine.streams.bounds import CONNECT_SECONDS_MAX, SILENT_SECONDS_MAX
from engine.streams.tls import TLS_OPTIONS, Tls, read_bool, read_text

PORT: Final = 6379
PORT_MAX: Final = 65_535

_WRITE: Final = "write redis://USER:PASSWORD@HOST:PORT/DATABASE"
_WRITE_CLUSTER: Final = "write redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT"
_SCHEMES: Final = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
"""And whether they are over TLS."""


class Node(msgspec.Struct, frozen=True, order=True):
    """Where a server answers."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Address(msgspec.Struct, frozen=True):
    """Where Redis is, and how it is spoken to."""

    nodes: tuple[Node, ...] = ()
    """One; or, of a cluster, some."""
    path: str | None = None
    """Of a socket, in place of a node."""
    is_cluster: bool = False
    tls: Tls | None = None
    username: str | None = None
    password: str | None = None
    database: int = 0
    client_name: str | None = None
    lib_name: str | None = None
    lib_version: str | None = None
    silent_seconds_max: float = SILENT_SECONDS_MAX
    connect_seconds_max: float = CONNECT_SECONDS_MAX
    keeps_alive: bool = False
    ping_seconds: float = 0.0
    """How long a connection may be idle before it is tried whether it still leads anywhere; 0 for
    ever."""

    @property
    def place(self) -> str:
        """Where it is, for people; without the password."""
        return self.path or ", ".join(map(str, self.nodes))

    def at(self, node: Node) -> "Address":
        """The same, for one node of a cluster."""
        return msgspec.structs.replace(self, nodes=(node,), is_cluster=False)


def parse_address(url: str) -> Address:
    """Read an address.

    Raises:
        ConfigurationError: It cannot be read, or has an option that is not understood.
    """
    scheme, found, rest = url.strip().partition("://")
    kind, plus, cluster = scheme.lower().partition("+")
    if not found or (kind not in _SCHEMES and scheme != "unix") or cluster not in {"", "cluster"}:
        named = f"begins with {scheme}://" if found and scheme.isidentifier() else "has no scheme"
        raise ConfigurationError(f"the Redis address {named}; {_WRITE}")
    place, _, query = rest.partition("?")
    authority, slash, path = place.partition("/")
    userinfo, at, hosts = authority.rpartition("@")
    parts: dict[str, Any] = {"is_cluster": bool(plus)}
    if at:
        name, _, password = userinfo.partition(":")
        parts["username"] = unquote(name) or None
        parts["password"] = unquote(password) or None
    if scheme == "unix":
        parts["path"] = _socket_of(hosts, slash, path)
    else:
        parts["nodes"] = tuple(
            _node_of(host, _WRITE_CLUSTER if plus else _WRITE) for host in hosts.split(",")
        )
        if len(parts["nodes"]) > 1 and not plus:
            raise ConfigurationError(f"the Redis address names several nodes; {_WRITE_CLUSTER}")
        parts["database"] = _database_of(path)
        if _SCHEMES[kind]:
            parts["tls"] = Tls()
    parts |= _options_of(query, parts)
    address = Address(**parts)
    if address.is_cluster and address.database:
        raise ConfigurationError("a Redis Cluster has no databases but 0; leave the number out")
    return address


def _socket_of(hosts: str, slash: str, path: str) -> str:
    if hosts or not path:
        raise ConfigurationError("the Redis address names no socket; write unix:///PATH?db=0")
    return unquote(slash + path)


def _node_of(text: str, write: str) -> Node:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        is_written = bool(bracket) and (not port or port.startswith(":"))
        port = port[1:]
    else:
        host, _, port = text.partition(":")
        is_written = ":" not in port
    if not host or not is_written:
        raise ConfigurationError(
            f"the Redis address names no host, or not as it is written; {write}"
        )
    number = int(port) if port.isascii() and port.isdecimal() and len(port) < 7 else 0
    if text.endswith(":") or (port and not 0 < number <= PORT_MAX):
        raise ConfigurationError(
            f"the port in the Redis address is no number from 1 to {PORT_MAX}; {write}"
        )
    return Node(unquote(host), number or PORT)


def _database_of(path: str) -> int:
    if path and not (path.isascii() and path.isdecimal() and len(path) < 10):
        raise ConfigurationError(f"the database in the Redis address is no number; {_WRITE}")
    return int(path or 0)


# Options.


def _options_of(query: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    tls: dict[str, Any] = {}
    of_tls = ""
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _OPTIONS:
            field, read = _OPTIONS[name]
            options[field] = _read_option(name, value, read)
        elif name in TLS_OPTIONS:
            field, read = TLS_OPTIONS[name]
            tls[field] = _read_option(name, value, read)
            of_tls = name
        else:
            raise ConfigurationError(
                f"the Redis address has an option {name!r}, which {_why(name)}"
            )
    options.pop("protocol", None)
    if tls:
        if parts.get("tls") is None:
            raise ConfigurationError(
                f"the Redis address has an option {of_tls!r} but is not over TLS; begin it "
                "with rediss://"
            )
        options["tls"] = msgspec.structs.replace(parts["tls"], **tls)
    return options


def _why(name: str) -> str:
    if name in _POINTLESS:
        return "means nothing here: the engine tries again by itself; leave it out"
    return "is not understood; leave it out"


def _read_option(name: str, value: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(value)
    except (ValueError, KeyError):
        raise ConfigurationError(
            f"the option {name!r} of the Redis address has a value that it cannot have"
        ) from None


def _number(value: str) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise ValueError
    return int(value)


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 < seconds < 1e6:  # no wait is that long, and NaN is none
        raise ValueError
    return seconds


def _seconds_or_never(value: str) -> float:
    return 0.0 if float(value) == 0 else _seconds(value)


def _protocol(value: str) -> int:
    return {"2": 2, "3": 3}[value]


_OPTIONS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "db": ("database", _number),
    "username": ("username", read_text),
    "password": ("password", read_text),
    "client_name": ("client_name", read_text),
    "lib_name": ("lib_name", read_text),
    "lib_version": ("lib_version", read_text),
    # Of either the engine needs what both can say; it speaks the second.
    "protocol": ("protocol", _protocol),
    "socket_timeout": ("silent_seconds_max", _seconds),
    "timeout": ("silent_seconds_max", _seconds),
    "socket_connect_timeout": ("connect_seconds_max", _seconds),
    "socket_keepalive": ("keeps_alive", read_bool),
    "health_check_interval": ("ping_seconds", _seconds_or_never),
}

_POINTLESS: Final = frozenset({"retry_on_timeout", "retry_on_error", "max_connections"})
