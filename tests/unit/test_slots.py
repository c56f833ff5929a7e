"""How a Redis Cluster is named, and where its keys are."""

import pytest
from redis.crc import key_slot

from engine.errors import ConfigurationError
from engine.streams.address import Node, parse_address
from engine.streams.cluster_connection import key_of
from engine.streams.connection import pack_command
from engine.streams.slots import primaries_of, redirection, slot_of


@pytest.mark.parametrize("key", [b"123456789", b"a{b}c", b"{}a", b"{a", b"a}{b}", b"{a}{b}", b""])
def test_slots_are_those_of_redis(key: bytes) -> None:
    assert slot_of(key) == key_slot(key)


def test_all_names_of_a_shard_are_on_one_node() -> None:
    names = [b"engine:transfers:{0007}", b"engine:transfers:{0007}:poisoned"]
    assert len({slot_of(name) for name in names}) == 1


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    address = parse_address("rediss+cluster://me:secret@a:1,b:2/0?ssl_check_hostname=no")
    assert address.is_cluster
    assert not parse_address("redis://a:1/0").is_cluster
    assert address.nodes == (Node("a", 1), Node("b", 2))
    of_one = address.at(Node("c", 3))
    assert of_one.nodes == (Node("c", 3),)
    assert (of_one.username, of_one.password) == ("me", "secret")
    assert of_one.tls is not None
    assert not of_one.tls.check_hostname
    with pytest.raises(ConfigurationError, match=r"write redis\+cluster"):
        parse_address("redis+cluster://a:b")


def test_a_node_without_a_name_is_the_one_that_was_asked() -> None:
    asked = Node("a", 1)
    primaries = primaries_of([[0, 5, [b"", 2, b"id"], [b"r", 3, b"id"]], [6, 6, [b"b", 4]]], asked)
    assert primaries[:8] == [Node("a", 2)] * 6 + [Node("b", 4), None]
    assert redirection("3999 127.0.0.1:6381", asked) == (3999, Node("127.0.0.1", 6381))
    assert redirection("3999 :6381", asked) == (3999, Node("a", 6381))


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ((b"XADD", b"engine:{0007}", b"*", b"bin", b"\r\n$3\r\n" * 9), b"engine:{0007}"),
        ((b"XREAD", b"COUNT", b"5", b"BLOCK", b"9", b"STREAMS", b"a:b", b"0-0"), b"a:b"),
        ((b"XLEN", b"XREAD"), b"XREAD"),
        ((b"XINFO", b"STREAM", b"a:b"), b"a:b"),
        ((b"XGROUP", b"CREATE", b"a:b", b"engine", b"0"), b"a:b"),
        ((b"INFO", b"memory"), None),
    ],
)
def test_the_key_of_a_packed_command(words: tuple[bytes, ...], key: bytes | None) -> None:
    assert key_of(pack_command(*words)) == key
