// Command fleet lives as a fleet of instances with a pool of connections each, through go-redis of one major version or another.
// It stops by SIGTERM.
//
//	fleet v8|v9 PORT INSTANCES CONNECTIONS TIMEOUT_MS EVERY_MS
//
// Lines on standard output, each flushed at once:
//
//	{"event":"ready"}                        all connections are open
//	{"event":"closed","at_ms":N}             the library closed one for the first time; milliseconds since 1970 began
//	{"event":"over","answered":N,"in_vain":N,"opened":N}
package main

import (
	"context"
	"fmt"
	"math/rand"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A client of one instance.
type client interface {
	// ask reads a key, as the library does it by default: with its retries.
	ask(ctx context.Context) error
	// open is how many connections its pool has.
	open() int
	Close() error
}

// pool is what a client is made with; everything else is as the library has it.
type pool struct {
	address     string
	connections int
	timeout     time.Duration
	dial        func(ctx context.Context, network, address string) (net.Conn, error)
}

type fleet struct {
	answered, inVain, opened atomic.Int64
	firstClose               sync.Once
}

// connection tells when the library closes it. It is a TCP connection in all else, since the library looks into its socket.
type connection struct {
	*net.TCPConn
	closing func()
}

func (one connection) Close() error {
	one.closing()
	return one.TCPConn.Close()
}

// Which is asked for, every time.
const key = "profile:1"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 6 {
		return fmt.Errorf("fleet v8|v9 PORT INSTANCES CONNECTIONS TIMEOUT_MS EVERY_MS")
	}
	numbers := make([]int, 5)
	for i, text := range arguments[1:] {
		number, err := strconv.Atoi(text)
		if err != nil || number < 1 {
			return fmt.Errorf("%q is not a number above 0", text)
		}
		numbers[i] = number
	}
	create, known := map[string]func(pool) client{"v8": newV8, "v9": newV9}[arguments[0]]
	if !known {
		return fmt.Errorf("there is no go-redis %s", arguments[0])
	}
	instances, every := numbers[1], time.Duration(numbers[4])*time.Millisecond

	var all fleet
	var clients []client
	for i := 0; i < instances; i++ {
		clients = append(clients, create(pool{
			address:     fmt.Sprintf("127.0.0.1:%d", numbers[0]),
			connections: numbers[2],
			timeout:     time.Duration(numbers[3]) * time.Millisecond,
			dial:        all.dialer(net.IPv4(127, 71, byte(i/250), byte(1+i%250))),
		}))
	}
	for _, one := range clients {
		for one.open() < numbers[2] {
			time.Sleep(10 * time.Millisecond)
		}
	}
	fmt.Println(`{"event":"ready"}`)

	living, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var users sync.WaitGroup
	for _, one := range clients {
		for i := 0; i < numbers[2]; i++ {
			users.Add(1)
			go func(one client) {
				defer users.Done()
				all.use(living, one, every)
			}(one)
		}
	}
	users.Wait()
	for _, one := range clients {
		one.Close()
	}
	fmt.Printf("{\"event\":\"over\",\"answered\":%d,\"in_vain\":%d,\"opened\":%d}\n",
		all.answered.Load(), all.inVain.Load(), all.opened.Load())
	return nil
}

// dialer opens connections from this address, and counts those that are open.
func (all *fleet) dialer(from net.IP) func(context.Context, string, string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: 5 * time.Second}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		opened, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		all.opened.Add(1)
		return connection{opened.(*net.TCPConn), all.closing}, nil
	}
}

func (all *fleet) closing() {
	all.firstClose.Do(func() {
		fmt.Printf("{\"event\":\"closed\",\"at_ms\":%d}\n", time.Now().UnixMilli())
	})
}

// use asks every so often, at a moment of its own.
func (all *fleet) use(living context.Context, one client, every time.Duration) {
	pause := time.Duration(rand.Int63n(int64(every)))
	for {
		select {
		case <-living.Done():
			return
		case <-time.After(pause):
		}
		pause = every
		if err := one.ask(context.Background()); err != nil {
			all.inVain.Add(1)
			continue
		}
		all.answered.Add(1)
	}
}
