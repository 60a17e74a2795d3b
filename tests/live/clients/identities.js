// ioredis with a user, a name and a database; stays connected until it is ended.
const Redis = require("ioredis");

const client = new Redis({
  port: Number(process.argv[1]),
  username: "checkout-svc",
  password: "pw-checkout",
  connectionName: "ioredis-client",
  db: 4,
});
client.get("node:1");
setTimeout(() => {}, 600_000);
