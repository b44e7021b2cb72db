//go:build httptransport

package sqclient

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"

	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/rewrite"
)

// transport is what a Conn is compared with in the bench. It is in no build that
// is served with.
var transport = &http.Transport{
	DisableKeepAlives: true, DisableCompression: true,
	DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return conn, conn.(*net.TCPConn).SetLinger(0)
	},
}

// Do is what do.go says, by way of http.Transport.
func (c *Child) Do(ctx context.Context, out rewrite.Outgoing, held *memlimit.Reservation) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, out.Method, "http://"+c.lease.Addr()+out.Path+"?"+out.Query, bytes.NewReader(out.Body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.lease.Key())
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, StatusError(resp.StatusCode)
	}
	if !held.Grow(held.Size() + resp.ContentLength) {
		return nil, errNoMemory
	}
	return io.ReadAll(resp.Body)
}
