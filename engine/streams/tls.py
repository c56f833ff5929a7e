"""TLS to Redis: what the options of an address that begin with `ssl_` mean, as in redis-py."""

import ssl
from collections.abc import Callable
from typing import Any, Final

import msgspec

from engine.errors import ConfigurationError

_TRUE: Final = frozenset({"1", "T", "TRUE", "Y", "YES"})
_FALSE: Final = frozenset({"0", "F", "FALSE", "N", "NO"})


class Tls(msgspec.Struct, frozen=True):
    """How a server is told from another that only says to be it."""

    cert_reqs: ssl.VerifyMode = ssl.CERT_REQUIRED
    check_hostname: bool = True
    ca_certs: str | None = None
    ca_path: str | None = None
    ca_data: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    password: str | None = None
    ciphers: str | None = None
    min_version: ssl.TLSVersion | None = None

    def context(self) -> ssl.SSLContext:
        """What a connection is made with.

        Raises:
            ConfigurationError: A file cannot be read, or an option has no meaning.
        """
        try:
            context = ssl.create_default_context(
                cafile=self.ca_certs, capath=self.ca_path, cadata=self.ca_data
            )
            context.check_hostname = self.check_hostname and self.cert_reqs != ssl.CERT_NONE
            context.verify_mode = self.cert_reqs
            if self.certfile is not None:
                context.load_cert_chain(self.certfile, self.keyfile, self.password)
            if self.ciphers is not None:
                context.set_ciphers(self.ciphers)
            if self.min_version is not None:
                context.minimum_version = self.min_version
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"the TLS options of the Redis address cannot be used: {error}"
            ) from error
        return context


def read_text(value: str) -> str:
    """An option that is a text. Raises ValueError."""
    if not value:
        raise ValueError
    return value


def read_bool(value: str) -> bool:
    """An option that is yes or no. Raises ValueError."""
    if value.upper() in _TRUE | _FALSE:
        return value.upper() in _TRUE
    raise ValueError


_CERT_REQS: Final = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
_VERSIONS: Final = {
    "TLSV1_2": ssl.TLSVersion.TLSv1_2,
    "TLSV1.2": ssl.TLSVersion.TLSv1_2,
    "771": ssl.TLSVersion.TLSv1_2,
    "TLSV1_3": ssl.TLSVersion.TLSv1_3,
    "TLSV1.3": ssl.TLSVersion.TLSv1_3,
    "772": ssl.TLSVersion.TLSv1_3,
}

TLS_OPTIONS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "ssl_cert_reqs": ("cert_reqs", lambda value: _CERT_REQS[value.lower().removeprefix("cert_")]),
    "ssl_check_hostname": ("check_hostname", read_bool),
    "ssl_ca_certs": ("ca_certs", read_text),
    "ssl_ca_path": ("ca_path", read_text),
    "ssl_ca_data": ("ca_data", read_text),
    "ssl_certfile": ("certfile", read_text),
    "ssl_keyfile": ("keyfile", read_text),
    "ssl_password": ("password", read_text),
    "ssl_ciphers": ("ciphers", read_text),
    "ssl_min_version": (
        "min_version",
        lambda value: _VERSIONS[value.upper().removeprefix("TLSVERSION.")],
    ),
}
