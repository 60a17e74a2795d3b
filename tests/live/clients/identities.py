"""A valkey-py pool under threads, a client that renames itself, and GLIDE: each stays connected until it is ended."""

import sys
import threading
import time

import valkey
from glide_sync import GlideClient, GlideClientConfiguration, NodeAddress, ServerCredentials

PORT = int(sys.argv[1])
THREADS = 8

pool = valkey.ConnectionPool(
    port=PORT, username="search-svc", password="pw-search", client_name="search-pool", db=1, max_connections=THREADS
)
together = threading.Barrier(THREADS)


def work():
    client = valkey.Valkey(connection_pool=pool)
    connection = pool.get_connection("GET")
    # All of them hold a connection at once, so that the pool has as many.
    together.wait()
    connection.send_command("GET", "search:1")
    connection.read_response()
    time.sleep(600)
    client.close()


for _ in range(THREADS):
    threading.Thread(target=work, daemon=True).start()

renamed = valkey.Valkey(port=PORT, protocol=3, single_connection_client=True)
renamed.client_setname("search-first")
renamed.client_setname("search-renamed")

glide = GlideClient.create(
    GlideClientConfiguration(
        [NodeAddress("127.0.0.1", PORT)],
        credentials=ServerCredentials("pw-batch", "batch"),
        client_name="glide-client",
    )
)
glide.get("glide:1")
time.sleep(600)
