"""Drives a server through Valkey GLIDE, in RESP2 and in RESP3, and prints what went to which row of the agent, in the form
of valkey_py.py. Its core does not show what it writes: `bytes_in` is that of the frames that its commands have to be."""

import json
import sys
import threading
import time

from glide_sync import (
    Batch,
    ClientSideCache,
    GlideClient,
    GlideClientConfiguration,
    NodeAddress,
    ProtocolVersion,
    RequestError,
    Script,
)

PORT = int(sys.argv[1])
SIZES = [1, 10, 1_000, 16_384, 100_000, 1 << 20]
PATIENCE = 20
sent = {}


def row(prefix):
    return sent.setdefault(prefix, {"commands": 0, "bytes_in": 0})


def connect(protocol, **more):
    return GlideClient.create(
        GlideClientConfiguration(
            [NodeAddress("127.0.0.1", PORT)], protocol=protocol, request_timeout=PATIENCE * 1000, **more
        )
    )


def frame(*words):
    return len(f"*{len(words)}\r\n") + sum(len(f"${len(word)}\r\n{word}\r\n") for word in words)


def counted(*words):
    """The words of a command on keys of the prefix of its first argument, counted."""
    prefix = words[1].split(":")[0]
    row(prefix)["commands"] += 1
    row(prefix)["bytes_in"] += frame(*words)
    return list(words)


def call(client, *words):
    return client.custom_command(counted(*words))


def values(client, prefix):
    for size in SIZES:
        value = "g" * size
        call(client, "SET", f"{prefix}:value:{size}", value)
        assert call(client, "GET", f"{prefix}:value:{size}") == value.encode()


def shapes(client, prefix):
    """Replies of every shape: status, integer, null, double, map, nested arrays, error."""
    for number in range(100):
        call(client, "SET", f"{prefix}:text", str(number))
        call(client, "INCR", f"{prefix}:number")
        call(client, "GET", f"{prefix}:missing")
        call(client, "HSET", f"{prefix}:hash", "a", "1", "b", "2")
        call(client, "HGETALL", f"{prefix}:hash")
        call(client, "ZADD", f"{prefix}:zset", "1.5", "m")
        call(client, "ZRANGE", f"{prefix}:zset", "0", "-1", "WITHSCORES")
        call(client, "XADD", f"{prefix}:stream", "MAXLEN", "20", "*", "f", "v")
        call(client, "XREVRANGE", f"{prefix}:stream", "+", "-", "COUNT", "3")
        call(client, "MGET", f"{prefix}:text", "elsewhere:text")
    refused(client, "INCR", f"{prefix}:hash")


def refused(client, *words):
    try:
        call(client, *words)
    except RequestError:
        return
    raise SystemExit(f"{words} should be refused")


def scripts(client, prefix):
    """The library sends the digest, and the script if the server does not know it: two commands more, the second keyed."""
    source = f"return redis.call('INCRBY', KEYS[1], ARGV[1]) -- {prefix}"
    script = Script(source)
    digest = script.get_hash()
    for _ in range(20):
        client.invoke_script(script, keys=[f"{prefix}s:number"], args=["7"])
    invocations = 21
    row(f"{prefix}s")["commands"] = invocations
    row(f"{prefix}s")["bytes_in"] = invocations * frame(
        "EVALSHA", digest, "1", f"{prefix}s:number", "7"
    )


def pipelines(client, prefix):
    for length in (2, 16, 100):
        for _ in range(10):
            batch = Batch(is_atomic=False)
            for number in range(length // 2):
                batch.custom_command(counted("SET", f"{prefix}:piped:{number}", "x" * number))
                batch.custom_command(counted("GET", f"{prefix}:piped:{number}"))
            client.exec(batch, raise_on_error=True)


def transactions(client, other, prefix):
    batch = Batch(is_atomic=True)
    for _ in range(50):
        batch.custom_command(counted("INCR", f"{prefix}:transaction"))
    client.exec(batch, raise_on_error=True)
    for change in (False, True):
        call(client, "WATCH", f"{prefix}:watched")
        call(client, "GET", f"{prefix}:watched")
        if change:
            call(other, "SET", f"{prefix}:watched", "changed")
        batch = Batch(is_atomic=True)
        batch.custom_command(counted("SET", f"{prefix}:watched", "mine"))
        assert (client.exec(batch, raise_on_error=True) is None) == change


def blocking(client, other, prefix):
    """A pop that waits, one that waits in vain."""
    later = threading.Timer(0.05, call, (other, "RPUSH", f"{prefix}:queue", "job"))
    later.start()
    assert call(client, "BLPOP", f"{prefix}:queue", str(PATIENCE)) is not None
    later.join()
    assert call(client, "BLPOP", f"{prefix}:queue", "0.02") is None


def subscriptions(client, prefix):
    """Messages, by channel and by pattern; the library wants RESP3 for them."""
    channel, pattern, text = f"{prefix}-news", f"{prefix}-*", "n" * 300
    modes = GlideClientConfiguration.PubSubChannelModes
    heard = []
    wanted = GlideClientConfiguration.PubSubSubscriptions(
        {modes.Exact: {channel}, modes.Pattern: {pattern}}, lambda message, _: heard.append(message), None
    )
    subscriber = connect(ProtocolVersion.RESP3, pubsub_subscriptions=wanted)
    wait("subscribers", lambda: client.publish(text, channel) == 2)
    for _ in range(49):
        assert client.publish(text, channel) == 2
    wait("messages", lambda: len(heard) >= 100)
    subscriber.close()
    pushed(50 * (frame("message", channel, text) + frame("pmessage", pattern, channel, text)))


def tracking(other, prefix):
    """Keys that are in the library's cache and then changed by somebody else, one after the other. How often it reads
    them is its own affair."""
    prefix = f"{prefix}t"
    sent.setdefault(prefix, {})
    cache = ClientSideCache.create(max_cache_kb=1024, entry_ttl_ms=0, server_assisted=True)
    tracked = connect(ProtocolVersion.RESP3, client_side_cache=cache)
    keys = [f"{prefix}:{number}" for number in range(20)]
    for key in keys:
        other.set(key, "old")
        assert tracked.get(key) == b"old"
        other.set(key, "new")
        wait("an invalidation", lambda: tracked.get(key) == b"new")
    tracked.close()
    pushed(sum(len("$10\r\ninvalidate\r\n*1\r\n") + len(f"${len(key)}\r\n{key}\r\n") for key in keys))


def known(client, prefix):
    """Commands whose replies are the same bytes in both protocols."""
    out = 0
    for size in (0, 5, 3_000, 70_000):
        value = "k" * size
        call(client, "SET", f"{prefix}:{size}", value)
        call(client, "GET", f"{prefix}:{size}")
        out += len("+OK\r\n") + len(f"${size}\r\n{value}\r\n")
    for transaction in (False, True):
        batch = Batch(is_atomic=transaction)
        for number in range(50):
            batch.custom_command(counted("APPEND", f"{prefix}:text", "x" * number))
        lengths = client.exec(batch, raise_on_error=True)
        # EXEC has no key, so its reply is another row's.
        out += sum(len("+QUEUED\r\n") if transaction else len(f":{length}\r\n") for length in lengths)
    row(prefix)["bytes_out"] = out


def keyless(client):
    client.ping()
    client.echo("echo:echo")
    client.custom_command(["INFO", "server"])


def wait(what, condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"no {what}")
        time.sleep(0.002)


def pushed(count):
    channels = sent.setdefault("(pubsub)", {"bytes_out": 0})
    channels["bytes_out"] += count


for protocol, prefix in ((ProtocolVersion.RESP2, "glide2"), (ProtocolVersion.RESP3, "glide3")):
    client, other = connect(protocol, client_name=f"live-{prefix}"), connect(protocol)
    values(client, prefix)
    shapes(client, prefix)
    scripts(client, prefix)
    pipelines(client, prefix)
    transactions(client, other, prefix)
    blocking(client, other, prefix)
    subscriptions(client, prefix)
    tracking(other, prefix)
    known(client, f"{prefix}k")
    keyless(client)
    client.close()
    other.close()

print(json.dumps(sent))
