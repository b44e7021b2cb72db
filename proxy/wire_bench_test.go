package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fakesq"
)

// BenchmarkTransport compares the wire with net/http's transport, set as it has
// to be for SQ, in front of the stand-in, or of the SQ at WIRE_SQ (host:port,
// key "k").
func BenchmarkTransport(b *testing.B) {
	addr := os.Getenv("WIRE_SQ")
	if addr == "" {
		addr = benchSQ(b)
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	for _, side := range []struct {
		name      string
		transport http.RoundTripper
	}{
		{"wire", newWire(time.Minute)},
		{"http", &http.Transport{DialContext: (&net.Dialer{Timeout: dialPatience}).DialContext, DisableKeepAlives: true,
			DisableCompression: true, ResponseHeaderTimeout: time.Minute, MaxResponseHeaderBytes: largestHead}},
	} {
		b.Run(side.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := whole(side.transport.RoundTrip(wireRequest(ctx, addr, nil))); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func benchSQ(b testing.TB) string { return benchSQWith(b, nil) }

func benchSQWith(b testing.TB, log io.Writer) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	sq := fakesq.New(fakesq.Config{Release: fakesq.Release056, Key: "k", HasKey: true, DataDir: b.TempDir(), Log: log})
	served := make(chan struct{})
	go func() { sq.Serve(l); close(served) }()
	b.Cleanup(func() { sq.Close(); <-served })
	return l.Addr().String()
}
