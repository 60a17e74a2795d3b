"""Drives a server through valkey-py, in RESP2 and in RESP3, and prints what went to which row of the agent.

A row's `commands` and `bytes_in` are those of the commands whose first key begins with the prefix, as the library wrote
them. `bytes_out` is there where every reply is known. Of `(pubsub)` it is the least: messages and invalidations."""

import json
import sys
import threading
import time

import valkey
from valkey.connection import PythonRespSerializer

PORT = int(sys.argv[1])
SIZES = [1, 10, 1_000, 16_384, 100_000, 1 << 20]
PATIENCE = 20
sent = {}


def row(prefix):
    return sent.setdefault(prefix, {"commands": 0, "bytes_in": 0})


def count_written(serializer, *arguments):
    """What the library writes, counted where the first key tells the prefix."""
    written = pack(serializer, *arguments)
    for argument in arguments[1:]:
        text = argument.encode() if isinstance(argument, str) else argument
        prefix = text.split(b":")[0].decode() if isinstance(text, bytes) else ""
        if prefix in sent:
            row(prefix)["commands"] += 1
            row(prefix)["bytes_in"] += sum(len(part) for part in written)
            break
    return written


pack = PythonRespSerializer.pack
PythonRespSerializer.pack = count_written


def connect(protocol, **more):
    return valkey.Valkey(
        port=PORT, protocol=protocol, socket_timeout=PATIENCE, single_connection_client=True, **more
    )


def values(client, prefix):
    for size in SIZES:
        value = b"p" * size
        client.set(f"{prefix}:value:{size}", value)
        assert client.get(f"{prefix}:value:{size}") == value


def shapes(client, prefix):
    """Replies of every shape: status, integer, null, double, map, nested arrays, error."""
    for number in range(100):
        client.set(f"{prefix}:text", number)
        client.incr(f"{prefix}:number")
        client.get(f"{prefix}:missing")
        client.hset(f"{prefix}:hash", mapping={"a": 1, "b": 2})
        client.hgetall(f"{prefix}:hash")
        client.zadd(f"{prefix}:zset", {"m": 1.5})
        client.zrange(f"{prefix}:zset", 0, -1, withscores=True)
        client.xadd(f"{prefix}:stream", {"f": "v"}, maxlen=20)
        client.lpush(f"{prefix}:list", number)
        client.brpop(f"{prefix}:list", timeout=1)
        # The second key belongs to the first one's prefix, by definition.
        client.mget(f"{prefix}:text", "elsewhere:text")
        client.eval("return {1, {2, 'three'}}", 1, f"{prefix}:script")
        refused(client.incr, f"{prefix}:hash")


def refused(call, *arguments):
    try:
        call(*arguments)
    except valkey.ResponseError:
        return
    raise SystemExit(f"{arguments} should be refused")


def scripts(client, prefix):
    add = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    for _ in range(20):
        add(keys=[f"{prefix}:number"], args=[7])
    refused(client.eval, "return redis.call('INCR', KEYS[1])", 1, f"{prefix}:hash")


def pipelines(client, prefix):
    for length in (2, 16, 100):
        for _ in range(10):
            with client.pipeline(transaction=False) as pipeline:
                for number in range(length // 2):
                    pipeline.set(f"{prefix}:piped:{number}", "x" * number)
                    pipeline.get(f"{prefix}:piped:{number}")
                pipeline.execute()


def transactions(client, other, prefix):
    with client.pipeline(transaction=True) as pipeline:
        for _ in range(50):
            pipeline.incr(f"{prefix}:transaction")
        pipeline.execute()
    for change in (False, True):
        with client.pipeline() as pipeline:
            pipeline.watch(f"{prefix}:watched")
            pipeline.get(f"{prefix}:watched")
            if change:
                other.set(f"{prefix}:watched", "changed")
            pipeline.multi()
            pipeline.set(f"{prefix}:watched", "mine")
            try:
                pipeline.execute()
                assert not change
            except valkey.WatchError:
                assert change
    client.execute_command("MULTI")
    client.execute_command("GET", f"{prefix}:watched")
    client.execute_command("DISCARD")


def blocking(client, other, prefix):
    """A pop that waits, one that waits in vain."""
    later = threading.Timer(0.05, other.rpush, (f"{prefix}:queue", "job"))
    later.start()
    assert client.blpop(f"{prefix}:queue", timeout=PATIENCE) is not None
    later.join()
    assert client.blpop(f"{prefix}:queue", timeout=0.02) is None


def subscriptions(client, protocol, prefix):
    """Messages, by channel and by pattern."""
    subscriber = connect(protocol)
    listener = subscriber.pubsub()
    channel, pattern = f"{prefix}-news", f"{prefix}-*"
    listener.subscribe(channel, "unheard")
    listener.psubscribe(pattern)
    while listener.get_message(timeout=0.1) is not None:
        pass
    text = "n" * 300
    for _ in range(50):
        assert client.publish(channel, text) == 2
    heard = 0
    while heard < 100:
        message = listener.get_message(timeout=PATIENCE)
        heard += message is not None and message["type"] in ("message", "pmessage")
    listener.unsubscribe()
    listener.punsubscribe()
    while listener.get_message(timeout=0.1) is not None:
        pass
    subscriber.close()
    least = frame("message", channel, text) + frame("pmessage", pattern, channel, text)
    pushed(50 * least)


def tracking(client, other, protocol, prefix):
    """Keys that were read and then changed by somebody else, one after the other."""
    heard = []
    if protocol == 3:
        tracked = connect(3)
        tracked.ping()
        tracked.connection._parser.set_invalidation_push_handler(heard.append)
        tracked.execute_command("CLIENT", "TRACKING", "ON")
        hear = tracked.ping
    else:
        listener = connect(2).pubsub()
        listener.execute_command("CLIENT", "ID")
        redirect = listener.connection.read_response()
        listener.subscribe("__redis__:invalidate")
        tracked = connect(2)
        tracked.execute_command("CLIENT", "TRACKING", "ON", "REDIRECT", redirect)

        def hear():
            message = listener.get_message(timeout=PATIENCE, ignore_subscribe_messages=True)
            if message is not None:
                heard.append(message)

    keys = [f"{prefix}:tracked:{number}" for number in range(20)]
    for key in keys:
        tracked.get(key)
        other.set(key, "changed")
        until = time.monotonic() + PATIENCE
        before = len(heard)
        while len(heard) == before:
            assert time.monotonic() < until, "no invalidation"
            hear()
    tracked.close()
    # `>2 invalidate` and the keys, or a message whose text is the keys: this is in both.
    pushed(sum(len("$10\r\ninvalidate\r\n*1\r\n") + len(f"${len(key)}\r\n{key}\r\n") for key in keys))


def known(client, prefix):
    """Commands whose replies are the same bytes in both protocols."""
    out = 0
    for size in (0, 5, 3_000, 70_000):
        value = "k" * size
        client.set(f"{prefix}:{size}", value)
        client.get(f"{prefix}:{size}")
        out += len("+OK\r\n") + len(f"${size}\r\n{value}\r\n")
    for transaction in (False, True):
        with client.pipeline(transaction=transaction) as pipeline:
            for number in range(50):
                pipeline.append(f"{prefix}:text", "x" * number)
            lengths = pipeline.execute()
        # EXEC has no key, so its reply is another row's.
        out += sum(len("+QUEUED\r\n") if transaction else len(f":{length}\r\n") for length in lengths)
    row(prefix)["bytes_out"] = out


def keyless(client, prefix):
    client.ping()
    client.echo("echo:echo")
    client.info("server")
    list(client.scan_iter(match=f"{prefix}x*", count=50))


def frame(*words):
    return len(f"*{len(words)}\r\n") + sum(len(f"${len(word)}\r\n{word}\r\n") for word in words)


def pushed(count):
    channels = sent.setdefault("(pubsub)", {"bytes_out": 0})
    channels["bytes_out"] += count


for protocol in (2, 3):
    prefix = f"py{protocol}"
    row(prefix)
    row(f"{prefix}k")
    client, other = connect(protocol, client_name=f"live-{protocol}"), connect(protocol)
    values(client, prefix)
    shapes(client, prefix)
    scripts(client, prefix)
    pipelines(client, prefix)
    transactions(client, other, prefix)
    blocking(client, other, prefix)
    subscriptions(client, protocol, prefix)
    tracking(client, other, protocol, prefix)
    known(client, f"{prefix}k")
    keyless(client, prefix)
    client.close()
    other.close()

print(json.dumps(sent))
