"""Drives a server through valkey-py in RESP2 and RESP3 and prints how many commands went to which key prefix."""

import json
import sys

import valkey

PORT = int(sys.argv[1])
SIZES = [1, 10, 1_000, 16_384, 100_000, 1 << 20]
sent = {}


def drive(client, prefix):
    def key(name):
        sent[prefix] = sent.get(prefix, 0) + 1
        return f"{prefix}:{name}"

    for size in SIZES:
        value = b"p" * size
        client.set(key(f"value:{size}"), value)
        assert client.get(key(f"value:{size}")) == value

    for number in range(300):
        client.set(key("text"), number)
        client.incr(key("number"))
        client.get(key("missing"))
        client.hset(key("hash"), mapping={"a": 1, "b": 2})
        client.hgetall(key("hash"))
        client.zadd(key("zset"), {"m": 1.5})
        client.zrange(key("zset"), 0, -1, withscores=True)
        client.xadd(key("stream"), {"f": "v"}, maxlen=20)
        client.lpush(key("list"), number)
        client.brpop(key("list"), timeout=1)
        # The second key belongs to the first one's prefix, by definition.
        client.mget(key("text"), "elsewhere:text")
        client.eval("return {1, {2, 'three'}}", 1, key("script"))
        try:
            client.incr(key("hash"))
            raise SystemExit("a hash cannot be incremented")
        except valkey.ResponseError:
            pass

    for _ in range(40):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(100):
                pipeline.set(key(f"piped:{number}"), "x" * number)
                pipeline.get(key(f"piped:{number}"))
            pipeline.execute()

    with client.pipeline(transaction=True) as pipeline:
        for number in range(50):
            pipeline.incr(key("transaction"))
        pipeline.execute()

    # Commands without a key.
    client.ping()
    client.echo("echo:echo")
    client.info("server")
    list(client.scan_iter(match=f"{prefix}:*", count=50))


for protocol in (2, 3):
    connection = valkey.Valkey(
        port=PORT, protocol=protocol, socket_timeout=20, client_name=f"live-{protocol}"
    )
    drive(connection, f"py{protocol}")
    connection.close()

print(json.dumps(sent))
