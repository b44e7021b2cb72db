//go:build !httptransport

package sqclient

import (
	"context"

	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/rewrite"
)

// Do sends one request and returns the body of SQ's answer, which must be a
// 200. The memory that the answer takes is added to held.
func (c *Child) Do(ctx context.Context, out rewrite.Outgoing, held *memlimit.Reservation) ([]byte, error) {
	conn, err := c.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.Send(out); err != nil {
		return nil, err
	}
	return conn.Receive(held)
}
