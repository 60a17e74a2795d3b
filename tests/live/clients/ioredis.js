// Drives a server through ioredis, in RESP2 and in RESP3, and prints what went to which row of the agent, in the form of
// valkey_py.py.
"use strict";

const assert = require("node:assert");
const { setTimeout: sleep } = require("node:timers/promises");
const Redis = require("ioredis");

const PORT = Number(process.argv[2]);
const SIZES = [1, 10, 1_000, 16_384, 100_000, 1 << 20];
const PATIENCE = 20_000;
const sent = {};

const row = (prefix) => (sent[prefix] ??= { commands: 0, bytes_in: 0 });

// What the library writes, counted where the first key tells the prefix.
const write = Redis.Command.prototype.toWritable;
Redis.Command.prototype.toWritable = function (socket) {
  const written = write.call(this, socket);
  const prefixes = this.args.map((argument) => String(argument).split(":")[0]);
  const prefix = prefixes.find((prefix) => prefix in sent);
  if (prefix !== undefined) {
    row(prefix).commands += 1;
    row(prefix).bytes_in += Buffer.byteLength(written);
  }
  return written;
};

function connect(protocol, more = {}) {
  const client = new Redis({ port: PORT, protocol, commandTimeout: PATIENCE, retryStrategy: null, ...more });
  client.on("error", fail);
  return client;
}

async function values(client, prefix) {
  for (const size of SIZES) {
    const value = Buffer.alloc(size, "i");
    await client.set(`${prefix}:value:${size}`, value);
    assert((await client.getBuffer(`${prefix}:value:${size}`)).equals(value));
  }
}

// Replies of every shape: status, integer, null, double, map, nested arrays, error.
async function shapes(client, prefix) {
  for (let number = 0; number < 100; number += 1) {
    await client.set(`${prefix}:text`, number);
    await client.incr(`${prefix}:number`);
    await client.get(`${prefix}:missing`);
    await client.hset(`${prefix}:hash`, { a: 1, b: 2 });
    await client.hgetall(`${prefix}:hash`);
    await client.zadd(`${prefix}:zset`, 1.5, "m");
    await client.zrange(`${prefix}:zset`, 0, -1, "WITHSCORES");
    await client.xadd(`${prefix}:stream`, "MAXLEN", 20, "*", "f", "v");
    await client.xrevrange(`${prefix}:stream`, "+", "-", "COUNT", 3);
    await client.mget(`${prefix}:text`, "elsewhere:text");
    await assert.rejects(client.incr(`${prefix}:hash`), /WRONGTYPE/);
  }
}

async function scripts(client, prefix) {
  client.defineCommand("add", { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
  for (let number = 0; number < 20; number += 1) {
    await client.add(`${prefix}:number`, 7);
  }
}

// By hand, and of commands that are merely called at the same moment.
async function pipelines(client, prefix) {
  for (const length of [2, 16, 100]) {
    for (let round = 0; round < 10; round += 1) {
      const pipeline = client.pipeline();
      for (let number = 0; number < length / 2; number += 1) {
        pipeline.set(`${prefix}:piped:${number}`, "x".repeat(number)).get(`${prefix}:piped:${number}`);
      }
      await succeeded(pipeline.exec());
      await Promise.all(Array.from({ length }, () => client.get(`${prefix}:piped:1`)));
    }
  }
}

async function transactions(client, other, prefix) {
  const transaction = client.multi();
  for (let number = 0; number < 50; number += 1) {
    transaction.incr(`${prefix}:transaction`);
  }
  await succeeded(transaction.exec());
  for (const change of [false, true]) {
    await client.watch(`${prefix}:watched`);
    await client.get(`${prefix}:watched`);
    if (change) {
      await other.set(`${prefix}:watched`, "changed");
    }
    const done = await client.multi().set(`${prefix}:watched`, "mine").exec();
    assert.strictEqual(done === null, change);
  }
  await client.multi({ pipeline: false });
  await client.get(`${prefix}:watched`);
  await client.discard();
}

async function succeeded(replies) {
  for (const [error] of await replies) {
    assert.ifError(error);
  }
}

// A pop that waits, one that waits in vain.
async function blocking(client, other, prefix) {
  const waiting = client.blpop(`${prefix}:queue`, PATIENCE / 1_000);
  await sleep(50);
  await other.rpush(`${prefix}:queue`, "job");
  assert.deepStrictEqual(await waiting, [`${prefix}:queue`, "job"]);
  assert.strictEqual(await client.blpop(`${prefix}:queue`, 0.02), null);
}

// Messages, by channel and by pattern.
async function subscriptions(client, protocol, prefix) {
  const [channel, pattern, text] = [`${prefix}-news`, `${prefix}-*`, "n".repeat(300)];
  const subscriber = connect(protocol);
  let heard = 0;
  subscriber.on("message", () => (heard += 1));
  subscriber.on("pmessage", () => (heard += 1));
  await subscriber.subscribe(channel, "unheard");
  await subscriber.psubscribe(pattern);
  for (let number = 0; number < 50; number += 1) {
    assert.strictEqual(await client.publish(channel, text), 2);
  }
  await until("messages", () => heard >= 100);
  await subscriber.unsubscribe(channel, "unheard");
  await subscriber.punsubscribe(pattern);
  await subscriber.ping();
  await closed(subscriber);
  pushed(50 * (frame("message", channel, text) + frame("pmessage", pattern, channel, text)));
}

// Keys that were read and then changed by somebody else, one after the other.
async function tracking(other, protocol, prefix) {
  const listener = connect(protocol);
  const tracked = protocol === 3 ? listener : connect(protocol);
  await listener.ping();
  let heard = "";
  // The library has no event for it in RESP3.
  listener.stream.on("data", (bytes) => (heard += bytes.toString("latin1")));
  if (protocol === 3) {
    await tracked.client("TRACKING", "ON");
  } else {
    const redirect = await listener.client("ID");
    await listener.subscribe("__redis__:invalidate");
    await tracked.client("TRACKING", "ON", "REDIRECT", redirect);
  }
  for (let number = 0; number < 20; number += 1) {
    const key = `${prefix}:tracked:${number}`;
    await tracked.get(key);
    await other.set(key, "changed");
    await until("an invalidation", () => heard.includes(`\r\n${key}\r\n`));
    // `>2 invalidate` and the key, or a message whose text is the key: this is in both.
    pushed(`$10\r\ninvalidate\r\n*1\r\n$${key.length}\r\n${key}\r\n`.length);
  }
  await closed(listener);
  if (tracked !== listener) {
    await closed(tracked);
  }
}

// Commands whose replies are the same bytes in both protocols.
async function known(client, prefix) {
  let out = 0;
  for (const size of [0, 5, 3_000, 70_000]) {
    const value = "k".repeat(size);
    await client.set(`${prefix}:${size}`, value);
    await client.get(`${prefix}:${size}`);
    out += "+OK\r\n".length + `$${size}\r\n${value}\r\n`.length;
  }
  for (const transaction of [false, true]) {
    const batch = transaction ? client.multi() : client.pipeline();
    for (let number = 0; number < 50; number += 1) {
      batch.append(`${prefix}:text`, "x".repeat(number));
    }
    for (const [, length] of await batch.exec()) {
      // EXEC has no key, so its reply is another row's.
      out += transaction ? "+QUEUED\r\n".length : `:${length}\r\n`.length;
    }
  }
  row(prefix).bytes_out = out;
}

async function keyless(client) {
  await client.ping();
  await client.echo("echo:echo");
  await client.info("server");
}

const frame = (...words) =>
  `*${words.length}\r\n`.length +
  words.reduce((sum, word) => sum + `$${word.length}\r\n${word}\r\n`.length, 0);

function pushed(count) {
  (sent["(pubsub)"] ??= { bytes_out: 0 }).bytes_out += count;
}

async function until(what, condition) {
  const deadline = Date.now() + PATIENCE;
  while (!condition()) {
    assert(Date.now() < deadline, `no ${what}`);
    await sleep(2);
  }
}

async function closed(client) {
  const end = new Promise((resolve) => client.once("end", resolve));
  client.disconnect();
  await end;
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

async function main() {
  for (const protocol of [2, 3]) {
    const prefix = `io${protocol}`;
    row(prefix);
    row(`${prefix}k`);
    const [client, other] = [connect(protocol, { connectionName: `live-${prefix}` }), connect(protocol)];
    await values(client, prefix);
    await shapes(client, prefix);
    await scripts(client, prefix);
    await pipelines(client, prefix);
    await transactions(client, other, prefix);
    await blocking(client, other, prefix);
    await subscriptions(client, protocol, prefix);
    await tracking(other, protocol, prefix);
    await known(client, `${prefix}k`);
    await keyless(client);
    await client.quit();
    await closed(other);
  }
  console.log(JSON.stringify(sent));
}

main().catch(fail);
