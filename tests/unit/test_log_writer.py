"""Log lines: nobody waits for who should take them, and those that are lost are counted."""

import json
import os

from engine.commands.log_writer import LINES_MAX, LogWriter

SPARE_LINES = 500


def test_lines_that_were_lost_are_counted_once_the_log_takes_lines_again() -> None:
    reading, writing = os.pipe()
    writer = LogWriter(writing)
    line = "x" * 1023 + "\n"
    pipe_lines = 64 * 1024 // len(line)
    # One is with the thread, in the middle of a write.
    written = pipe_lines + LINES_MAX + SPARE_LINES
    for _ in range(written):
        writer.write(line)
    found = b""
    while True:
        found += os.read(reading, 64 * 1024)
        told = [json.loads(each)["lines"] for each in found.split(b"\n")[:-1] if each[:1] == b"{"]
        if found.count(b"x\n") + sum(told) == written:
            break
    assert 0 < told[0] <= SPARE_LINES + pipe_lines
    writer.finish()
    os.close(reading)
    os.close(writing)


def test_a_log_that_refuses_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = LogWriter(writing)
    for _ in range(10):
        writer.write("lost\n")
    writer.finish()
    os.close(writing)


def test_what_was_written_is_there_at_the_end() -> None:
    reading, writing = os.pipe()
    writer = LogWriter(writing)
    writer.write("first\n")
    writer.write("second\n")
    writer.finish()
    assert os.read(reading, 100) == b"first\nsecond\n"
    os.close(reading)
    os.close(writing)
