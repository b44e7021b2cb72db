package main

import (
	"bufio"
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// TestRequestsThatAreRefusedEarly have an X-Request-Id, a line in the log and a count,
// as all others do.
func TestRequestsThatAreRefusedEarly(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	for name, test := range map[string]struct {
		request string
		status  int
		code    string
	}{
		"a large header": {"GET /toc HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n", 431, "header_too_large"},
		"two lengths":    {"POST /api/v2/update HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "bad_request"},
	} {
		rejected := `sq_rejected_total{code="` + test.code + `"}`
		before := max(0, sample(g.metrics(t), rejected))
		answer, err := http.ReadResponse(bufio.NewReader(strings.NewReader(g.raw(t, test.request))), nil)
		if err != nil || answer.StatusCode != test.status {
			t.Fatalf("%s: %v, %v", name, answer, err)
		}
		id := answer.Header.Get("X-Request-Id")
		if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(id) || !strings.Contains(answer.Header.Get("Access-Control-Expose-Headers"), "X-Request-Id") {
			t.Errorf("%s: %v", name, answer.Header)
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
		defer cancel()
		if _, err := g.log.await(ctx, regexp.MustCompile(`msg=request request=`+id+` remote=127\.0\.0\.1 .*code=`+test.code)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if after := sample(g.metrics(t), rejected); after != before+1 {
			t.Errorf("%s: %v of %s, and %v before", name, after, rejected, before)
		}
	}
}
