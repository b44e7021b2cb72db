package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestOneTenantsLargeHeaders leave others room for theirs, as long as its event streams may be.
func TestOneTenantsLargeHeaders(t *testing.T) {
	g := startGate(t, bestSQ(), "will", "mary")
	padding := strings.Repeat("c", 30<<10)
	open, refused := 0, false
	for ; !refused; open++ {
		if open > headerMemory/len(padding) {
			t.Fatal("one tenant has all memory for large headers")
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(waitTimeout)) // a TCP connection takes deadlines
		if _, err := fmt.Fprintf(conn, "GET /api/v2/changes HTTP/1.1\r\nHost: sqgate\r\nAccept: text/event-stream\r\nAuthorization: Bearer %s\r\nCookie: %s\r\n\r\n", g.key("will"), padding); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		refused = !strings.Contains(line, " 200 ")
	}
	req, err := http.NewRequest("GET", g.url+"/api/v2/toc", nil)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]int{"will": 503, "mary": 200} {
		req.Header.Set("Authorization", "Bearer "+g.key(id))
		req.Header.Set("Cookie", padding)
		if r, err := g.send(req); err != nil || r.status != want {
			t.Errorf("%s, beside %d streams of will: %v %d %.200q", id, open, err, r.status, r.body)
		}
	}
}
