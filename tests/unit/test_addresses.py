"""Addresses of Postgres, as people write them: read as libpq reads them, or refused in a line."""

from typing import Any

import pytest

from engine.errors import ConfigurationError
from engine.store.address import read_address

PLAIN = {"host": ["h"], "port": [5433], "user": "u", "password": "p w", "database": "db"}
READ: list[tuple[str, dict[str, Any]]] = [
    ("postgresql://u:p%20w@h:5433/db", PLAIN),
    ("postgres://u:p%20w@h:5433/db", PLAIN),
    ("postgresql+asyncpg://u:p%20w@h:5433/db", PLAIN),
    ("postgresql+psycopg://u:p%20w@h:5433/db", PLAIN),
    ("host=h port=5433 user=u password='p w' dbname=db", PLAIN),
    ("  host = h port= 5433 user =u password=p\\ w dbname=db ", PLAIN),
    ("postgresql:///db?host=h&port=5433&user=u&password=p%20w", PLAIN),
    ("postgresql://u:a#b@[::1]/db", {"host": ["::1"], "port": [5432], "password": "a#b"}),
    ("postgresql://h:1,i:2/db", {"host": ["h", "i"], "port": [1, 2]}),
    ("host=h,i port=7", {"host": ["h", "i"], "port": [7, 7]}),
    ("postgresql://%2Ftmp/db", {"host": ["/tmp"], "port": [5432]}),
    ("hostaddr=10.0.0.1 dbname=db", {"host": ["10.0.0.1"]}),
    ("postgresql://h/db?sslmode=verify-full&sslrootcert=/r", {"dsn": "postgresql://?sslmode=verify-full&sslrootcert=%2Fr"}),
    ("postgresql://h/db?sslmode=require&sslrootcert=/r", {"dsn": "postgresql://?sslmode=verify-ca&sslrootcert=%2Fr"}),
    ("postgresql://h/db?target_session_attrs=primary", {"dsn": "postgresql://?target_session_attrs=primary"}),
    ("postgresql://h/db?krbsrvname=pg", {"dsn": "postgresql://?krbsrvname=pg"}),
    ("postgresql://h/db?channel_binding=prefer&gssencmode=disable&client_encoding=utf8", {"dsn": "postgresql://"}),
]  # fmt: skip
REFUSED = [
    ("", "is empty"),
    ("nonsense", "cannot be read"),
    ("mysql://u@h/db", "mysql:// is no address of Postgres"),
    ("redis://h", "redis:// is no address of Postgres"),
    ("postgresql+mysql://h", "no address of Postgres"),
    ("postgresql://u:hush/hush@h/db", "port"),
    ("postgresql://u:hush@hush@h/db", "more than one @"),
    ("postgresql://u:hush%@h/db", "stands for nothing"),
    ("postgresql://h:0/db", "from 1 to 65535"),
    ("postgresql://h:70000/db", "from 1 to 65535"),
    ("postgresql://h,i:1:2/db", "from 1 to 65535"),
    ("postgresql://[::1/db", "IPv6"),
    ("postgresql://h,/db", "host in the address of Postgres is empty"),
    ("host=h,i port=1,2,3", "2 hosts and 3 ports"),
    ("host=h password=hush hush", "cannot be read"),
    ("postgresql://h/db?sslmode", "has no value"),
    ("postgresql://h/db?sslmode=perhaps", "verify-full"),
    ("postgresql://h/db?channel_binding=require", "sslmode=verify-full"),
    ("postgresql://h/db?gssencmode=require", "sslmode=verify-full"),
    ("postgresql://h/db?client_encoding=latin1", "UTF8"),
    ("postgresql://h/db?application_name=mine", "leave it out"),
    ("postgresql://h/db?service=mine", "write out"),
    ("postgresql://h/db?load_balance_hosts=random", "disable"),
    ("postgresql://h/db?connect_timeout=soon", "no whole number"),
    ("postgresql://h/db?keepalives_idle=1.5", "no whole number"),
    ("postgresql://h/db?search_path=mine", "no option that the engine knows"),
    ("postgresql://h/db?hostaddr=10.0.0.1", "host and hostaddr"),
    ("postgresql://h/db?sslrootcert=system&sslmode=require", "sslmode=verify-full"),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_an_address_is_read(text: str, expected: dict[str, Any]) -> None:
    found = read_address(text).arguments
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_an_address_that_cannot_be_meant_is_refused_in_a_line(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_address(text)
    message = str(refused.value)
    assert why in message
    assert "\n" not in message
    assert "hush" not in message


def test_options_mean_what_they_mean_to_libpq() -> None:
    address = read_address(
        "postgresql://u:hush@h:1,[::1]:2/db?connect_timeout=3&keepalives=0&tcp_user_timeout=900"
        "&options=-c%20work_mem%3D8MB"
    )
    assert address.where == "h:1, [::1]:2"
    assert address.connect_seconds_max == 3
    assert address.keepalives == {"keepalives": 0, "tcp_user_timeout": 900}
    assert address.options == "-c work_mem=8MB"
