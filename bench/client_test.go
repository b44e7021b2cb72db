package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// tagged is a server that answers with a body and an ETag, or with 304.
func tagged(t *testing.T, tag string) side {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tag != "" {
			w.Header().Set("ETag", tag)
		}
		if r.Header.Get("If-None-Match") == tag && tag != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, "a table of contents")
	}))
	t.Cleanup(server.Close)
	return side{name: "server", addr: server.Listener.Addr().String(), keepAlive: true}
}

// thrice sends the same request three times on one connection.
func thrice(t *testing.T, s side, request []byte) (answered, failed int, err error) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	times, failed, err := loop(ctx, newCaller(s, time.Now().Add(time.Minute)), 0, func(_, i int) []byte {
		if i == 2 {
			cancel()
		}
		return request
	})
	return len(times), failed, err
}

func TestOnlyTheExpectedStatusCounts(t *testing.T) {
	s := tagged(t, `"a"`)
	plain, known := s.request("GET", "/", nil), s.request("GET", "/", nil, `If-None-Match: "a"`)
	for name, x := range map[string]struct {
		side             side
		request          []byte
		answered, failed int
	}{
		"200":                {s, plain, 3, 0},
		"304":                {s.expecting(304), known, 3, 0},
		"304 instead of 200": {s, known, 0, 3},
		"200 instead of 304": {s.expecting(304), plain, 0, 3},
	} {
		answered, failed, err := thrice(t, x.side, x.request)
		if answered != x.answered || failed != x.failed || (err != nil) != (x.failed > 0) {
			t.Errorf("%s: %d, %d, %v", name, answered, failed, err)
		}
	}
}

func TestTagOfAnAnswer(t *testing.T) {
	s := tagged(t, `"a"`)
	if tag, err := s.tagOf(t.Context(), s.request("GET", "/", nil)); tag != `"a"` || err != nil {
		t.Errorf("%q, %v", tag, err)
	}
	s = tagged(t, "")
	if tag, err := s.tagOf(t.Context(), s.request("GET", "/", nil)); err == nil || !strings.Contains(err.Error(), "ETag") {
		t.Errorf("%q, %v", tag, err)
	}
}

func TestHeadersStandBeforeTheBody(t *testing.T) {
	text := string(side{key: "k"}.request("POST", "/x", []byte("body"), "If-None-Match: *"))
	if head, body, _ := strings.Cut(text, "\r\n\r\n"); !strings.Contains(head, "\r\nIf-None-Match: *") || body != "body" {
		t.Errorf("%q", text)
	}
}
