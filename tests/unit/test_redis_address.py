"""What an address of Redis means; what it cannot mean is one line, without the password."""

import ssl

import pytest

from engine.errors import ConfigurationError
from engine.streams.address import Address, Node, parse_address
from engine.streams.tls import Tls

A = (Node("a", 6379),)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://a", Address(A)),
        ("redis://a/", Address(A)),
        ("valkey://a:7/3", Address((Node("a", 7),), database=3)),
        ("redis://a?db=4", Address(A, database=4)),
        ("REDIS://a", Address(A)),
        ("redis://u:p%40%2F@a", Address(A, username="u", password="p@/")),
        ("redis://:p@a", Address(A, password="p")),
        ("redis://[::1]:7", Address((Node("::1", 7),))),
        ("redis://[::1]", Address((Node("::1", 6379),))),
        ("rediss://a", Address(A, tls=Tls())),
        ("valkeys://a?ssl_cert_reqs=none", Address(A, tls=Tls(cert_reqs=ssl.CERT_NONE))),
        ("rediss://a?ssl_check_hostname=false", Address(A, tls=Tls(check_hostname=False))),
        (
            "rediss://a?ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k",
            Address(A, tls=Tls(ca_certs="/ca", certfile="/c", keyfile="/k")),
        ),
        ("unix:///run/redis.sock?db=2", Address(path="/run/redis.sock", database=2)),
        ("unix://u:p@/run/redis.sock", Address(path="/run/redis.sock", username="u", password="p")),
        ("redis+cluster://a:1,b", Address((Node("a", 1), Node("b", 6379)), is_cluster=True)),
        (
            "valkeys+cluster://u:p@a,b?ssl_cert_reqs=optional",
            Address(
                (Node("a", 6379), Node("b", 6379)),
                is_cluster=True,
                username="u",
                password="p",
                tls=Tls(cert_reqs=ssl.CERT_OPTIONAL),
            ),
        ),
        (
            (
                "redis://a?socket_timeout=2.5&socket_connect_timeout=1&socket_keepalive=yes"
                "&health_check_interval=30&client_name=me&protocol=3&lib_name=l&lib_version=1"
            ),
            Address(
                A,
                silent_seconds_max=2.5,
                connect_seconds_max=1,
                keeps_alive=True,
                ping_seconds=30,
                client_name="me",
                lib_name="l",
                lib_version="1",
            ),
        ),
        ("redis://a?health_check_interval=0", Address(A)),
    ],
)
def test_addresses_mean_what_they_mean_in_redis_py(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "no scheme"),
        ("a:6379", "no scheme"),
        ("sEcReT@a:6379", "no scheme"),
        ("http://:sEcReT@a", "begins with http://"),
        ("redis+sentinel://:sEcReT@a", "redis://USER"),
        ("redis://", "no host"),
        ("redis://:sEcReT@", "no host"),
        ("redis://:6379", "no host"),
        ("redis://:sEcReT@a:abc", "port"),
        ("redis://:sEcReT@a:", "port"),
        ("redis://:sEcReT@a:0", "port"),
        ("redis://:sEcReT@a:65536", "port"),
        ("redis://:sEcReT@a:-1", "port"),
        ("redis://a:6379:6380", "no host"),
        ("redis://[::1", "no host"),
        ("redis://:sEc/ReT@a", "no host"),
        ("redis://a/x", "database"),
        ("redis://a/-1", "database"),
        ("redis://a/1/2", "database"),
        ("redis://a?db=x", "'db'"),
        ("redis://a,b", "several nodes"),
        ("redis+cluster://a,b/1", "no databases but 0"),
        ("redis+cluster://a,", "no host"),
        ("unix://", "no socket"),
        ("unix://run/redis.sock", "no socket"),
        ("redis://a?sockettimeout=1", "'sockettimeout'"),
        ("redis://a?socket_timeout=soon", "'socket_timeout'"),
        ("redis://a?socket_timeout=nan", "'socket_timeout'"),
        ("redis://a?socket_timeout=-1", "'socket_timeout'"),
        ("redis://a?socket_timeout=", "'socket_timeout'"),
        ("redis://a?retry_on_timeout=1", "tries again by itself"),
        ("redis://a?decode_responses=1", "'decode_responses'"),
        ("redis://a?ssl_cert_reqs=none", "rediss://"),
        ("rediss://a?ssl_cert_reqs=perhaps", "'ssl_cert_reqs'"),
        ("rediss://a?ssl_check_hostname=perhaps", "'ssl_check_hostname'"),
        ("redis://a?protocol=4", "'protocol'"),
        ("redis://a?password=sEcReT&x=sEcReT", "'x'"),
    ],
)
def test_what_cannot_be_read_is_one_line(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_address(url)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "ReT" not in str(refused.value)


def test_files_that_are_not_there_are_named() -> None:
    address = parse_address("rediss://a?ssl_ca_certs=/nowhere/ca.pem")
    assert address.tls is not None
    with pytest.raises(ConfigurationError, match="TLS options"):
        address.tls.context()
