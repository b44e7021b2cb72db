package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// untilEOF sends a request and reads until the gateway closes the connection. It
// does not close its own side first.
func (w *wire) untilEOF(text string) string {
	w.t.Helper()
	w.send(text)
	answer, err := io.ReadAll(w.in)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(answer)
}

// bodyOf is the body of an answer that was read from a socket, or the whole answer
// if its status is not 200.
func bodyOf(answer string) string {
	head, body, _ := strings.Cut(answer, "\r\n\r\n")
	if !strings.HasPrefix(head, "HTTP/1.0 200 ") && !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		return answer
	}
	return body
}

func TestFirmware(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "sensor")
		key := g.key("sensor")
		for _, c := range []struct{ name, request, want string }{
			{"write", "GET " + at("update", "log", origin) + "&s=21.5 HTTP/1.0\r\nAuthorization: Bearer " + key + "\r\n\r\n", "Updated 4 bytes"},
			{"the value last", "GET /api/v2/select?p=log&c=" + origin + " HTTP/1.0\r\nAuthorization: " + key + "\r\n\r\n", "21.5"},
			{"the phext last", "GET /api/v2/select?c=" + origin + "&p=log HTTP/1.0\r\nAuthorization: " + key + "\r\n\r\n", "21.5"},
			{"append", "POST " + at("insert", "log", origin) + " HTTP/1.0\r\nAuthorization: Bearer " + key + "\r\nContent-Length: 5\r\n\r\n;22.0", "Inserted 5 bytes"},
			{"bare line ends", "GET " + at("select", "log", origin) + " HTTP/1.0\nAuthorization: Bearer " + key + "\n\n", "21.5;22.0"},
			{"HTTP/1.1 that closes", "GET " + at("select", "log", origin) + " HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nAuthorization: Bearer " + key + "\r\n\r\n", "21.5;22.0"},
			{"HTTP/1.1 without a host", "GET " + at("select", "log", origin) + " HTTP/1.1\r\nConnection: close\r\nAuthorization: Bearer " + key + "\r\n\r\n", "21.5;22.0"},
			{"missing", "GET " + at("select", "log", "2.2.2/2.2.2/2.2.2") + " HTTP/1.0\r\nAuthorization: Bearer " + key + "\r\n\r\n", ""},
			{"toc", "GET /api/v2/toc?p=log HTTP/1.0\r\nX-SQ-API-Key: " + key + "\r\n\r\n", "* " + origin + ": 21.5;22.0\n"},
			{"remove", "GET " + at("delete", "log", origin) + " HTTP/1.0\r\nAuthorization: Bearer " + key + "\r\n\r\n", "Removed 9 bytes"},
		} {
			if got := bodyOf(g.wire(t).untilEOF(c.request)); got != c.want {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		}
	})
}

// TestNginxDefaults is nginx without proxy_http_version 1.1 in front of sqgate. It
// sends HTTP/1.0, and legacy SQ takes " HTTP/1.0" for a part of the last value.
func TestNginxDefaults(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		forwarded := " HTTP/1.0\r\nX-Real-IP: 203.0.113.9\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nHost: HOST\r\nConnection: close\r\nAuthorization: Bearer " +
			g.key("will") + "\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
		for _, c := range []struct{ request, want string }{
			{"GET /api/v2/update?p=n&c=" + origin + "&s=last" + forwarded + "\r\n", "Updated 4 bytes"},
			{"GET /api/v2/select?c=" + origin + "&p=n" + forwarded + "\r\n", "last"},
			{"POST " + at("insert", "n", origin) + forwarded + "Content-Length: 5\r\nContent-Type: text/plain\r\n\r\n more", "Inserted 5 bytes"},
			{"GET /api/v2/get?p=n" + forwarded + "\r\n", "last more"},
		} {
			answer := g.wire(t).untilEOF(c.request)
			if bodyOf(answer) != c.want || strings.Count(strings.ToLower(answer), "access-control-allow-origin") != 1 {
				t.Errorf("%.60s: %q, want %q and one CORS header", c.request, answer, c.want)
			}
		}
	})
}

// TestStreamingClients uploads bodies of unknown length. The connection ends after each.
func TestStreamingClients(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		key := g.key("will")

		// Python's http.client with an iterable body.
		g.wire(t).want(200, "Inserted 4 bytes", lines("POST "+at("insert", "n", "1.1.1/1.1.1/1.1.1")+" HTTP/1.1", "Host: HOST", "Accept-Encoding: identity",
			"Transfer-Encoding: chunked", "Authorization: "+key), "2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")

		// curl -T - waits for 100 Continue before it sends the body.
		w := g.wire(t)
		w.send(curl("PUT", at("update", "n", "1.1.1/1.1.1/1.1.2"), "Transfer-Encoding: chunked", "Authorization: Bearer "+key, "Expect: 100-continue") + "\r\n\r\n")
		if r := w.answer("PUT"); r.status != 100 {
			t.Fatalf("curl waits for 100 and gets %d %q", r.status, r.body)
		}
		w.send("9\r\nstreamed\n\r\n0\r\n\r\n")
		if r := w.answer("PUT"); r.status != 200 || r.body != "Updated 9 bytes" {
			t.Errorf("curl -T -: %d %q", r.status, r.body)
		}

		// Many small chunks, with an extension and a trailer.
		var body, want strings.Builder
		for i := range 3000 {
			piece := fmt.Sprintf("line %d\n", i)
			fmt.Fprintf(&body, "%x;n=%d\r\n%s\r\n", len(piece), i, piece)
			want.WriteString(piece)
		}
		body.WriteString("0\r\nX-Checksum: none\r\n\r\n")
		g.wire(t).want(200, fmt.Sprintf("Updated %d bytes", want.Len()), lines("POST "+at("update", "n", "1.1.1/1.1.1/1.1.3")+" HTTP/1.1", "Host: HOST",
			"Transfer-Encoding: chunked", "Trailer: X-Checksum", "Authorization: Bearer "+key), body.String())
		g.wire(t).want(200, "abcd\x17streamed\n\x17"+want.String(), curl("GET", "/api/v2/get?p=n", "Authorization: Bearer "+key), "")
	})
}

// urllib is a request as Python's urllib sends it.
func urllib(method, target, key string, more ...string) string {
	return lines(append(append([]string{method + " " + target + " HTTP/1.1", "Accept-Encoding: identity"}, more...),
		"Host: HOST", "User-Agent: Python-urllib/3.11", "Authorization: Bearer "+key, "Connection: close")...)
}

// requests is a request as Python's requests sends it.
func requests(method, target, key string, more ...string) string {
	return lines(append([]string{method + " " + target + " HTTP/1.1", "Host: HOST", "User-Agent: python-requests/2.31.0", "Accept-Encoding: gzip, deflate",
		"Accept: */*", "Connection: keep-alive", "Authorization: " + key}, more...)...)
}

// TestLibphextPython is a client that formats queries by hand and escapes nothing.
// The library below it escapes a space and little more.
func TestLibphextPython(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		key := g.key("will")
		g.wire(t).want(200, "Updated 3 bytes", urllib("POST", "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.1", key,
			"Content-Type: application/x-www-form-urlencoded", "Content-Length: 3"), "h\u00e9")
		g.wire(t).want(200, "h\u00e9", urllib("GET", "/api/v2/select?p=n&c=1.1.1/1.1.1/1.1.1", key), "")
		w := g.wire(t)
		for query, want := range map[string]string{
			`semi;colons,(and)!*'~@[more]:$/?%20x`: `semi;colons,(and)!*'~@[more]:$/? x`,
			`{"json":"with|pipes^and\\"}`:          `{"json":"with|pipes^and\\"}`,
			`a=b==c`:                               `a=b==c`,
			`1+1`:                                  `1 1`,
			`100%`:                                 `100%`,
			`<tag>#hash`:                           `<tag>#hash`,
			`%C3%A9%F0%9F%94%B1`:                   "\u00e9\U0001f531",
		} {
			w.want(200, fmt.Sprintf("Updated %d bytes", len(want)), requests("GET", "/api/v2/update?p=my-notes_2&c=1.1.1;1.1.1;1.1.2&s="+query, key), "")
			w.want(200, want, requests("GET", "/api/v2/select?p=my-notes_2&c=1.1.1/1.1.1/1.1.2", key), "")
		}
		w.want(200, "Updated 4 bytes", requests("POST", "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.2", key, "Content-Length: 4"), "text")
		body := `{"coordinate": "1.1.1/1.1.1/1.1.3", "content": "as json"}`
		w.want(200, "Inserted 7 bytes", requests("POST", "/api/v2/insert?p=n", key, fmt.Sprintf("Content-Length: %d", len(body)), "Content-Type: application/json"), body)
		w.want(200, "h\u00e9\x17text\x17as json", requests("GET", "/api/v2/get?p=n", key), "")
		// Python's libraries refuse to send this, and SQ would accept it.
		if got := g.wire(t).untilEOF("GET /api/v2/update?p=n&c=1.1.1/1.1.1/1.1.9&s=two words HTTP/1.1\r\nHost: HOST\r\nAuthorization: " + key + "\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("a space in the request line: %q", got)
		}
		w.want(200, "Removed 7 bytes", requests("DELETE", "/api/v2/delete?p=n&c=1.1.1/1.1.1/1.1.3", key, "Content-Length: 0"), "")
	})
}
