import io.lettuce.core.ClientOptions;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisURI;
import io.lettuce.core.TimeoutOptions;
import io.lettuce.core.api.async.RedisAsyncCommands;
import io.lettuce.core.resource.ClientResources;
import io.lettuce.core.resource.NettyCustomizer;
import io.netty.bootstrap.Bootstrap;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Lives as a fleet of instances with some connections each, through Lettuce. It stops by SIGTERM.
 *
 * <p>{@code java Fleet PORT INSTANCES CONNECTIONS TIMEOUT_MS EVERY_MS}; with {@code EVERY_MS} 0 nobody asks anything. Whoever gets no
 * answer in time asks again at once. Lines on standard output:
 *
 * <pre>
 * {"event":"ready"}                        all connections are open
 * {"event":"timed_out","at_ms":N}          the first question in vain; milliseconds since 1970 began
 * {"event":"over","answered":N,"in_vain":N}
 * </pre>
 */
public final class Fleet {
    private static final String KEY = "session:1";

    private final AtomicLong answered = new AtomicLong();
    private final AtomicLong inVain = new AtomicLong();
    private final AtomicBoolean timedOut = new AtomicBoolean();
    private final ClientResources resources = ClientResources.create();
    private final Duration timeout;
    private volatile boolean living = true;

    private Fleet(Duration timeout) {
        this.timeout = timeout;
    }

    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length != 5) {
            System.err.println("java Fleet PORT INSTANCES CONNECTIONS TIMEOUT_MS EVERY_MS");
            System.exit(1);
        }
        int[] numbers = new int[arguments.length];
        for (int i = 0; i < numbers.length; i++) {
            numbers[i] = Integer.parseInt(arguments[i]);
        }
        new Fleet(Duration.ofMillis(numbers[3])).live(numbers[0], numbers[1], numbers[2], numbers[4]);
    }

    private void live(int port, int instances, int connections, int everyMs) throws InterruptedException {
        List<RedisClient> clients = new ArrayList<>();
        for (int instance = 0; instance < instances; instance++) {
            RedisClient client = client(port, new InetSocketAddress("127.71.0." + (1 + instance), 0));
            clients.add(client);
            for (int i = 0; i < connections; i++) {
                RedisAsyncCommands<String, String> commands = client.connect().async();
                if (everyMs > 0) {
                    long first = ThreadLocalRandom.current().nextLong(everyMs);
                    resources.eventExecutorGroup().schedule(() -> ask(commands, everyMs), first, TimeUnit.MILLISECONDS);
                }
            }
        }
        System.out.println("{\"event\":\"ready\"}");
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            living = false;
            System.out.printf("{\"event\":\"over\",\"answered\":%d,\"in_vain\":%d}%n", answered.get(), inVain.get());
        }));
        // Lettuce's own threads do not keep the program alive.
        Thread.currentThread().join();
    }

    /** One instance. All share their threads. */
    private RedisClient client(int port, InetSocketAddress from) {
        ClientResources own = resources.mutate().nettyCustomizer(new NettyCustomizer() {
            @Override
            public void afterBootstrapInitialized(Bootstrap bootstrap) {
                bootstrap.localAddress(from);
            }
        }).build();
        RedisClient client = RedisClient.create(own, RedisURI.create("127.0.0.1", port));
        client.setOptions(ClientOptions.builder().timeoutOptions(TimeoutOptions.enabled(timeout)).build());
        return client;
    }

    private void ask(RedisAsyncCommands<String, String> commands, int everyMs) {
        if (!living) {
            return;
        }
        commands.get(KEY).whenComplete((value, error) -> {
            long pause = error == null ? everyMs : 0;
            if (error == null) {
                answered.incrementAndGet();
            } else {
                inVain.incrementAndGet();
                if (timedOut.compareAndSet(false, true)) {
                    System.out.printf("{\"event\":\"timed_out\",\"at_ms\":%d}%n", System.currentTimeMillis());
                }
            }
            resources.eventExecutorGroup().schedule(() -> ask(commands, everyMs), pause, TimeUnit.MILLISECONDS);
        });
    }
}
