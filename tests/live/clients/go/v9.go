package main

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

type v9 struct{ *redis.Client }

func newV9(pool pool) client {
	return v9{redis.NewClient(&redis.Options{
		Addr:         pool.address,
		PoolSize:     pool.connections,
		MinIdleConns: pool.connections,
		ReadTimeout:  pool.timeout,
		Dialer:       pool.dial,
	})}
}

func (client v9) ask(ctx context.Context) error {
	err := client.Get(ctx, key).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

func (client v9) open() int { return int(client.PoolStats().TotalConns) }
