package main

import (
	"context"
	"errors"

	"github.com/go-redis/redis/v8"
)

type v8 struct{ *redis.Client }

func newV8(pool pool) client {
	return v8{redis.NewClient(&redis.Options{
		Addr:         pool.address,
		PoolSize:     pool.connections,
		MinIdleConns: pool.connections,
		ReadTimeout:  pool.timeout,
		Dialer:       pool.dial,
	})}
}

func (client v8) ask(ctx context.Context) error {
	err := client.Get(ctx, key).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

func (client v8) open() int { return int(client.PoolStats().TotalConns) }
