#!/usr/bin/env python3
"""Records captures: sends the `>` turns of the files to a server, and writes its answers and the expected table.

    record.py PORT FILE...

The table does not come from the meter: replies are parsed here, recursively, from the whole conversation, and the server
itself says (COMMAND GETKEYS) where a command's first key is. What the server does not know is decided by `row_of`.
See README.md for the notation.
"""

import collections
import re
import socket
import sys

QUIET_SECONDS = 0.15
PREFIX_BYTES = 32
BY_HAND = "books: by hand"
SUBSCRIBE = {b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE"}
MESSAGES = {b"message", b"pmessage", b"smessage"} | {name.lower() for name in SUBSCRIBE}


def decode(text):
    """The notation, as bytes."""
    one = rb"\\x[0-9a-fA-F]{2}|\\.|[^{]"

    def byte(match):
        if match.startswith(b"\\x"):
            return bytes([int(match[2:], 16)])
        return {b"\\r": b"\r", b"\\n": b"\n", b"\\t": b"\t"}.get(match, match[-1:])

    result = bytearray()
    pattern = rb"\{(?P<r>" + one + rb")\*(?P<n>\d+)\}|(?P<o>" + one + rb")"
    for match in re.finditer(pattern, text.encode()):
        if match["o"]:
            result += byte(match["o"])
        else:
            result += byte(match["r"]) * int(match["n"])
    return bytes(result)


def encode(data):
    """Bytes, in the notation."""

    def plain(byte):
        known = {0x0D: "\\r", 0x0A: "\\n", 0x09: "\\t", 0x5C: "\\\\", 0x7B: "\\{"}
        return known.get(byte) or (chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02x}")

    def run(match):
        return "{%s*%d}" % (plain(match[0][0]), len(match[0]))

    text, at = "", 0
    for match in re.finditer(rb"(.)\1{39,}", data, re.DOTALL):
        text += "".join(map(plain, data[at : match.start()])) + run(match)
        at = match.end()
    return text + "".join(map(plain, data[at:]))


def value(data, at):
    """Parses the value at `at`; returns it and where it ends. Aggregates are lists, strings bytes, integers int."""
    end = data.index(b"\r\n", at)
    kind, rest, at = data[at : at + 1], data[at + 1 : end], end + 2
    if kind in b"$=!":
        size = int(rest)
        if size >= 0 and at + size + 2 > len(data):
            raise IndexError("unfinished")
        return (None, at) if size < 0 else (data[at : at + size], at + size + 2)
    if kind in b"*~>%|":
        count = int(rest) * (2 if kind in b"%|" else 1)
        items = []
        for _ in range(count):
            item, at = value(data, at)
            items.append(item)
        return value(data, at) if kind == b"|" else (items, at)
    return (int(rest) if kind == b":" else kind + rest), at


def replies(data):
    """The top-level values of a stream: type byte, value, bytes."""
    at = 0
    while at < len(data):
        item, end = value(data, at)
        yield data[at : at + 1], item, data[at:end]
        at = end


def commands(data):
    """The commands of a stream: arguments and length; what ends unfinished has arguments None."""
    at = 0
    while at < len(data):
        try:
            if data[at : at + 1] == b"*":
                end = data.index(b"\r\n", at) + 2
                items, count = [], int(data[at + 1 : end - 2])
                for _ in range(max(count, 0)):
                    item, end = value(data, end)
                    items.append(item)
            else:
                end = data.index(b"\n", at) + 1
                quoted = rb'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|([^\s"\']+)'
                items = [b"".join(groups) for groups in re.findall(quoted, data[at:end])]
        except (ValueError, IndexError):
            end, items = len(data), None
        yield items, min(end, len(data)) - at
        at = end


class Server:
    """A connection of its own: for what other clients do meanwhile, and to ask where keys are."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))

    def ask(self, *arguments):
        self.socket.sendall(b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in arguments))
        data = b""
        while True:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError(f"the server closed on {arguments}")
            data += piece
            try:
                return value(data, 0)[0]
            except (ValueError, IndexError):
                continue

    def row_of(self, arguments):
        name = arguments[0].upper()
        if name in SUBSCRIBE or name in {b"PUBLISH", b"SPUBLISH"}:
            return "(pubsub)"
        if name in {b"PSYNC", b"SYNC"}:
            return "(replication)"
        found = self.ask(b"COMMAND", b"GETKEYS", *arguments)
        if isinstance(found, list) and found:
            return prefix_row(found[0])
        if not found or b"no key arguments" in found:
            return "(keyless)"
        # Wrong, or unknown to the server: then the first argument, if there is one.
        first = 1 if self.unknown(name) else self.ask(b"COMMAND", b"INFO", name)[0][3]
        return prefix_row(arguments[first]) if 0 < first < len(arguments) else "(keyless)"

    def unknown(self, name):
        return self.ask(b"COMMAND", b"INFO", name) == [None]


def prefix_row(key):
    prefix, colon, _ = key.partition(b":")
    if not colon or not prefix or len(prefix) > PREFIX_BYTES:
        return "(none)"
    return "".join({9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 39: "\\'", 92: "\\\\"}.get(b)
                   or (chr(b) if 32 <= b <= 126 else f"\\x{b:02x}") for b in prefix)


def converse(port, lines, other):
    """Sends the turns; returns the conversation as (mark, bytes or text)."""
    while lines and lines[0][0] == "!":
        other.ask(*[decode(word) for word in lines[0][1].split(" ")])
        yield lines.pop(0)
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(QUIET_SECONDS)
    talk = []

    def listen():
        data = b""
        try:
            while piece := client.recv(1 << 20):
                data += piece
        except (TimeoutError, ConnectionResetError):
            pass
        if data:
            talk.append(("<", data))

    if not lines:
        listen()
    for index, (mark, text) in enumerate(lines):
        if mark == "!":
            other.ask(*[decode(word) for word in text.split(" ")])
            talk.append(("!", text))
            listen()
            continue
        talk.append((mark, decode(text)))
        if mark == ">" and index + 1 < len(lines) and lines[index + 1][0] == "+":
            continue
        if mark == "+" and index + 1 < len(lines) and lines[index + 1][0] == "+":
            continue
        start = max(i for i, (m, _) in enumerate(talk) if m == ">")
        try:
            client.sendall(b"".join(data for _, data in talk[start:]))
        except (BrokenPipeError, ConnectionResetError):
            pass
        listen()
    yield from talk


def table(talk, other):
    """Rows of a conversation, and the other lines of the table."""
    rows = collections.defaultdict(lambda: [0, 0, 0])
    waiting, replicating, monitor, opaque, unknown = [], False, False, 0, 0
    sent = b"".join(data for mark, data in talk if mark in ">+")
    unfinished = 0
    for arguments, size in commands(sent):
        if replicating:
            rows["(replication)"][1] += size
            continue
        if opaque:
            opaque += size
            continue
        if arguments is None:
            unfinished += size
            continue
        if not arguments:
            rows["(keyless)"][1] += size
            continue
        row = other.row_of(arguments)
        rows[row][0] += 1
        rows[row][1] += size
        name = arguments[0].upper()
        replicating = name in {b"PSYNC", b"SYNC"}
        monitor |= name == b"MONITOR"
        opaque = [word.upper() for word in arguments[:2]] == [b"CLIENT", b"REPLY"]
        unknown += other.unknown(name)
        # How many confirmations are to come: one a channel; -1, until none is left.
        channels = len(arguments) - 1
        waiting.append((row, 0 if name not in SUBSCRIBE else channels or (-1 if b"UN" in name else 1)))
    answered, off = b"", 0
    for index, (mark, data) in enumerate(talk):
        if any(b"CLIENT\r\n$5\r\nREPLY" in sent for m, sent in talk[:index] if m in ">+"):
            off += len(data) if mark == "<" else 0
        elif mark == "<":
            answered += data
    unexpected, at, confirmed = 0, 0, False
    for kind, item, data in replies(answered):
        if replicating and waiting[0][0] == "(replication)":
            rows["(replication)"][2] += len(answered) - at
            break
        at += len(data)
        message = isinstance(item, list) and bool(item) and isinstance(item[0], bytes) and item[0] in MESSAGES
        if kind == b">" or message:
            rows["(pubsub)"][2] += len(data)
            if message and isinstance(item[-1], int) and waiting and waiting[0][1]:
                row, left = waiting[0]
                waiting[0] = (row, left - 1 if left > 0 else -1 if item[-1] else 0)
                if waiting[0][1] == 0:
                    waiting.pop(0)
                confirmed = True
        elif monitor and kind == b"+" and item[1:2].isdigit():
            rows["(keyless)"][2] += len(data)
        elif waiting:
            if waiting[0][1] < 0 and confirmed:
                waiting.pop(0)
            rows[waiting.pop(0)[0]][2] += len(data)
            confirmed = False
        else:
            unexpected += len(data)
    lost = {"? in client_reply": opaque - 1 if opaque else 0, "? out client_reply": off, "? out unexpected_reply": unexpected}
    return rows, lost | {"~ in": unfinished, "% unknown_command": unknown}


def record(port, path):
    other = Server(port)
    other.ask(b"FLUSHALL")
    other.ask(b"CONFIG", b"SET", b"maxclients", b"1000")
    with open(path) as file:
        text = file.read().splitlines()
    head = [line for line in text if line[:2] not in ("> ", "+ ", "! ", "< ", "= ", "? ", "~ ", "% ")]
    lines, mine = [], True
    for line in text:
        mine = line[:2] in ("> ", "! ") or mine and line[:2] == "+ "
        if mine:
            lines.append((line[0], line[2:]))
    talk = list(converse(port, lines, other))
    by_hand = BY_HAND in head
    rows, rest = ({}, {}) if by_hand else table(talk, other)
    with open(path, "w") as file:
        for line in head:
            print(line, file=file)
        for mark, data in talk:
            if mark != "<":
                print(mark, data if mark == "!" else encode(data), file=file)
                continue
            for piece in pieces(data):
                print(mark, encode(piece), file=file)
                mark = "+"
        for line in text if by_hand else ():
            if line[:2] in ("= ", "? ", "~ ", "% "):
                print(line, file=file)
        for name, counts in sorted(rows.items()):
            print("=", name, *counts, file=file)
        for name, count in rest.items():
            if count:
                print(name, count, file=file)
    print(path)


def pieces(data):
    """One line a reply, where the turn holds whole replies."""
    try:
        return [piece for _, _, piece in replies(data)]
    except (ValueError, IndexError):
        return [data]


if __name__ == "__main__":
    for name in sys.argv[2:]:
        record(int(sys.argv[1]), name)
