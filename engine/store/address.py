"""Where Postgres is: addresses as people write them, read as libpq reads them.

A URL or `key=value` words. What the driver cannot do as libpq would is refused, with what to
write instead; nothing is let go by in silence, and no message shows a password.
"""

import os
import re
import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from engine.errors import ConfigurationError

CONNECT_SECONDS_MAX: Final = 10.0
"""For one attempt to connect, unless the address says otherwise; it can only say less than 60."""

CONNECT_SECONDS_LIMIT: Final = 60.0

EXAMPLE: Final = "postgresql://user@host:5432/database"

_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][\w+.-]*)://"
    r"(?:(?P<user>[^:@/?]*)(?::(?P<password>[^@/]*))?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<dbname>[^?]*))?(?:\?(?P<options>.*))?",
    re.DOTALL,
)
_SCHEME: Final = re.compile(r"postgres(ql)?(\+(asyncpg|psycopg|psycopg2|psycopg3|pg8000))?")
"""Also as SQLAlchemy writes it; the driver that it names is no business of ours."""

_WORD: Final = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)")

_OF_DRIVER: Final = (
    "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "krbsrvname",
    "gsslib", "passfile",
)  # fmt: skip
"""What the driver reads as libpq does."""

_CHOICES: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": (
        "any", "primary", "standby", "read-write", "read-only", "prefer-standby",
    ),
    "sslnegotiation": ("postgres", "direct"),
    "gsslib": ("gssapi", "sspi"),
}  # fmt: skip

_SAME: Final = {
    "channel_binding": (("disable", "prefer"), "sslmode=verify-full, which needs no binding"),
    "gssencmode": (("disable", "prefer"), "sslmode=verify-full: TLS instead of GSSAPI"),
    "client_encoding": (("auto", "utf8", "utf-8", "unicode"), "client_encoding=UTF8"),
    "load_balance_hosts": (("disable",), "load_balance_hosts=disable: one primary decides"),
    "replication": (("false", "off", "no", "0"), "an address without replication"),
    "sslcompression": (("0",), "sslcompression=0"),
    "sslcertmode": (("allow",), "sslcertmode=allow"),
    "sslsni": (("1",), "sslsni=1"),
    "min_protocol_version": (("3.0",), "min_protocol_version=3.0"),
    "max_protocol_version": (("3.0", "3.2", "latest"), "max_protocol_version=latest"),
    "gssdelegation": (("0",), "gssdelegation=0"),
}
"""Options of which only these values are what the driver does, and what to write else."""

_REFUSED: Final = {
    "application_name": "leave it out: the engine finds its connections by names of its own",
    "service": "write out what the service stands for",
    "require_auth": "leave it out, and require it in pg_hba.conf",
    "requirepeer": "leave it out, and name the server by TLS",
}

_KEEPALIVES: Final = (
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
)  # fmt: skip


class Address(msgspec.Struct, frozen=True):
    """An address, as the driver takes it."""

    where: str
    """Host and port, for messages."""
    arguments: Mapping[str, Any]
    """Of `asyncpg.connect`."""
    options: str | None
    """Of the backend: `-c name=value`."""
    connect_seconds_max: float
    keepalives: Mapping[str, int]
    """Those that were written, in libpq's names and units."""


def where_of(text: str) -> str:
    """Host and port of an address, for messages; nothing where it cannot be read."""
    try:
        return read_address(text).where
    except ConfigurationError:
        return ""


@cache
def read_address(text: str) -> Address:
    """Read an address.

    Args:
        text: A URL, or `key=value` words.

    Raises:
        ConfigurationError: It cannot be read, or the driver cannot do what it says. The
            message says what to write instead.
    """
    given = _read_url(text.strip()) if "://" in text else _read_words(text.strip())
    if given.pop("requiressl", "0") == "1":
        given.setdefault("sslmode", "require")
    if given.pop("ssl", "") == "true":
        given.setdefault("sslmode", "require")
    given.pop("fallback_application_name", None)
    _check_options(given)
    arguments: dict[str, Any] = _servers(given)
    where = _where(arguments)
    for name, argument in (("user", "user"), ("password", "password"), ("dbname", "database")):
        if given.get(name):
            arguments[argument] = given[name]
    root = given.get("sslrootcert")
    if root == "system":
        if given.get("sslmode", "verify-full") != "verify-full":
            raise _wrong("sslrootcert", "sslmode=verify-full beside sslrootcert=system")
        given = {name: value for name, value in given.items() if not name.startswith("ssl")}
        arguments["ssl"] = ssl.create_default_context()
    elif root and given.get("sslmode") == "require":
        # As libpq has it: who names a root is to be verified by it.
        given["sslmode"] = "verify-ca"
    options = [f"{name}={quote(given[name], safe='')}" for name in _OF_DRIVER if given.get(name)]
    arguments["dsn"] = "postgresql://?" + "&".join(options) if options else "postgresql://"
    return Address(
        where,
        arguments,
        given.get("options") or None,
        _seconds(given),
        {name: _whole(given, name) for name in _KEEPALIVES if given.get(name)},
    )


def _read_url(text: str) -> dict[str, str]:
    match = _URL.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"the address of Postgres cannot be read: write {EXAMPLE}")
    if not _SCHEME.fullmatch(match["scheme"]):
        raise ConfigurationError(
            f"{match['scheme']}:// is no address of Postgres: write {EXAMPLE}",
        )
    given = {name: _decoded(match[name]) for name in ("user", "password", "dbname") if match[name]}
    hosts, ports = [], []
    for server in match["hosts"].split(",") if match["hosts"] else ():
        found = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?", server, re.DOTALL)
        if found is None:
            raise ConfigurationError(
                "a host in the address of Postgres cannot be read: write host:port, and an IPv6 "
                "address in brackets",
            )
        hosts.append(_decoded(found[1].strip("[]")))
        ports.append(found[2] or "")
    if hosts:
        given |= {"host": ",".join(hosts), "port": ",".join(ports)}
    for option in match["options"].split("&") if match["options"] else ():
        name, equals, value = option.partition("=")
        if not equals:
            raise ConfigurationError(
                "an option in the address of Postgres has no value: write ?name=value&name=value",
            )
        given[_decoded(name)] = _decoded(value)
    return _named(given)


def _read_words(text: str) -> dict[str, str]:
    given = {}
    place = 0
    while place < len(text):
        match = _WORD.match(text, place)
        if match is None:
            raise ConfigurationError(
                f"the address of Postgres cannot be read: write {EXAMPLE}, or "
                "host=... port=... user=... dbname=...",
            )
        value = match[2][1:-1] if match[2].startswith("'") else match[2]
        given[match[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        place = match.end()
    if not given:
        raise ConfigurationError(f"the address of Postgres is empty: write {EXAMPLE}")
    return _named(given)


def _named(given: dict[str, str]) -> dict[str, str]:
    if "database" in given:
        given["dbname"] = given.pop("database")
    return given


def _decoded(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", text):
        raise ConfigurationError(
            "the address of Postgres has a % that stands for nothing: write %25 for a % itself",
        )
    return unquote(text)


def _check_options(given: Mapping[str, str]) -> None:
    known = {
        "host", "hostaddr", "port", "dbname", "user", "password", "options", "connect_timeout",
        *_OF_DRIVER, *_KEEPALIVES,
    }  # fmt: skip
    for name, value in given.items():
        if name in _REFUSED:
            raise ConfigurationError(f"{name} in the address of Postgres: {_REFUSED[name]}")
        if name in _SAME:
            values, instead = _SAME[name]
            if value.lower() not in values:
                raise _wrong(name, instead)
        elif name not in known:
            raise ConfigurationError(
                f"{name!r} in the address of Postgres is no option that the engine knows: leave "
                "it out; a setting of the server is written options=-c%20name%3Dvalue",
            )
        if name in _CHOICES and value and value not in _CHOICES[name]:
            raise _wrong(name, f"{name}=" + " or ".join(_CHOICES[name]))


def _wrong(name: str, instead: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} in the address of Postgres says what the engine cannot do: write {instead}",
    )


def _servers(given: Mapping[str, str]) -> dict[str, Any]:
    """Hosts and ports, as many of the ones as of the others."""
    host, address = given.get("host", ""), given.get("hostaddr", "")
    if host and address:
        raise ConfigurationError(
            "host and hostaddr in the address of Postgres: write one of them, host where TLS is "
            "to verify it",
        )
    hosts = (host or address).split(",") if host or address else []
    ports = [_port(port) for port in given.get("port", "").split(",")] if "port" in given else []
    if not hosts:
        return {} if not any(ports) else {"port": ports[0] if len(ports) == 1 else ports}
    if any("@" in name for name in hosts):
        # Not shown: what stands before it is a piece of a password.
        raise ConfigurationError(
            "the address of Postgres has more than one @: in a password write %40 for it",
        )
    if not all(hosts):
        raise ConfigurationError("a host in the address of Postgres is empty: write host:port")
    if len(ports) not in {0, 1, len(hosts)}:
        raise ConfigurationError(
            f"the address of Postgres has {len(hosts)} hosts and {len(ports)} ports: write a port "
            "for each host, or one for all",
        )
    default = int(os.environ.get("PGPORT") or 5432) if not ports else 5432
    every = ports * len(hosts) if len(ports) == 1 else ports or [0] * len(hosts)
    return {"host": hosts, "port": [port or default for port in every]}


def _port(text: str) -> int:
    if not text:
        return 0
    # Not shown: it may be a piece of a password with a slash in it.
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ConfigurationError(
            "the port in the address of Postgres is no number from 1 to 65535 (in a password "
            "write %2F for a slash, %40 for an @, %3A for a colon)",
        )
    return int(text)


def _where(servers: Mapping[str, Any]) -> str:
    if "host" not in servers:
        host = os.environ.get("PGHOST") or "the socket of this machine"
        return f"{host}:{servers.get('port') or os.environ.get('PGPORT') or 5432}"
    return ", ".join(
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        for host, port in zip(servers["host"], servers["port"], strict=True)
    )


def _whole(given: Mapping[str, str], name: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", given[name]):
        raise ConfigurationError(f"{name} in the address of Postgres is no whole number")
    return int(given[name])


def _seconds(given: Mapping[str, str]) -> float:
    """For an attempt to connect; 0 is without a limit in libpq, and the longest here."""
    if not given.get("connect_timeout"):
        return CONNECT_SECONDS_MAX
    seconds = _whole(given, "connect_timeout")
    return min(float(seconds), CONNECT_SECONDS_LIMIT) if seconds > 0 else CONNECT_SECONDS_LIMIT
