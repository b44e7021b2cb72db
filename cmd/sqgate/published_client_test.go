package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// How the clients of the samples send a request: their own headers.
var (
	curlHeaders     = []string{"User-Agent: curl/8.5.0", "Accept: */*"}
	requestsHeaders = []string{"User-Agent: python-requests/2.32.3", "Accept-Encoding: gzip, deflate", "Accept: */*", "Connection: keep-alive"}
	fetchHeaders    = []string{"connection: keep-alive", "accept: */*", "accept-language: *", "sec-fetch-mode: cors", "user-agent: node", "accept-encoding: gzip, deflate"}
	axiosHeaders    = []string{"Accept: application/json, text/plain, */*", "User-Agent: axios/1.7.2", "Accept-Encoding: gzip, compress, deflate, br", "Connection: keep-alive"}
	goHeaders       = []string{"User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip"}
	reqwestHeaders  = []string{"accept: */*"}
)

// Content types of the samples' writes.
const (
	asText   = "Content-Type: text/plain"
	asUTF8   = "content-type: text/plain;charset=UTF-8"
	asJSON   = "Content-Type: application/json"
	asForm   = "Content-Type: application/x-www-form-urlencoded"
	untyped  = ""
	sendsKey = ""
	anon     = "anon"  // is sent without a key where the address has an id: the tenant is public
	keyless  = "never" // is always sent without a key
)

// sampleClient sends the requests of one sample to one form of the address.
type sampleClient struct {
	t       *testing.T
	w       *wire
	key     string
	base    string // in front of /api/v2
	id      string // of the sample
	headers []string
	writers []string // keys of other tenants that may write under base
}

// call sends a request and expects a status.
func (c *sampleClient) call(status int, auth, method, target, contentType, body string) reply {
	c.t.Helper()
	if !strings.HasPrefix(target, "/") {
		target = "/api/v2/" + target
	}
	head := append([]string{method + " " + c.base + target + " HTTP/1.1", "Host: HOST"}, c.headers...)
	if auth == sendsKey || auth == anon && c.base == "" {
		head = append(head, "Authorization: Bearer "+c.key)
	}
	if method == "PUT" || method == "POST" {
		head = append(head, "Content-Length: "+strconv.Itoa(len(body)))
		if contentType != "" {
			head = append(head, contentType)
		}
	}
	r := c.w.ask(lines(head...), body)
	if r.status != status {
		c.t.Errorf("%s: %s %s%s: %d %.500q, want %d", c.id, method, c.base, target, r.status, r.body, status)
	}
	return r
}

// object is an answer of JSON.
func (c *sampleClient) object(r reply) (object map[string]any) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(r.body), &object); err != nil || r.header.Get("Content-Type") != "application/json" {
		c.t.Errorf("%s: %v: %.500q %s", c.id, err, r.body, r.header.Get("Content-Type"))
	}
	return object
}

func (c *sampleClient) check(ok bool, what ...any) {
	c.t.Helper()
	if !ok {
		c.t.Errorf("%s under %q: %v", c.id, c.base, what)
	}
}

// write writes a scroll and checks the answer as the reference has it.
func (c *sampleClient) write(method, coordinate, contentType, body string) {
	c.t.Helper()
	o := c.object(c.call(200, sendsKey, method, "write/"+coordinate, contentType, body))
	size := float64(len(body))
	_, err := time.Parse("2006-01-02T15:04:05Z", fmt.Sprint(o["timestamp"]))
	c.check(o["status"] == "ok" && o["ok"] == true && o["coordinate"] == unescapedPath(coordinate) && o["bytes_written"] == size && o["bytes"] == size && err == nil, o, err)
}

func unescapedPath(s string) string {
	out, err := url.PathUnescape(s)
	if err != nil {
		panic(err) // only the tests' own coordinates are unescaped
	}
	return out
}

func (c *sampleClient) put(coordinate, body string) {
	c.t.Helper()
	c.write("PUT", coordinate, untyped, body)
}

func (c *sampleClient) reads(auth, coordinate, want string) {
	c.t.Helper()
	r := c.call(200, auth, "GET", "read/"+coordinate, "", "")
	c.check(r.body == want && r.header.Get("Content-Type") == "text/plain; charset=utf-8", r.body, "want", want)
}

// misses reads a scroll that is not there.
func (c *sampleClient) misses(auth, coordinate string) {
	c.t.Helper()
	o := c.object(c.call(404, auth, "GET", "read/"+coordinate, "", ""))
	_, details := o["details"].(map[string]any)
	c.check(o["code"] == "NOT_FOUND" && o["coordinate"] == unescapedPath(coordinate) && o["error"] != "" && details, o)
}

// coordinates lists a prefix, and checks that each of the coordinates can be read.
func (c *sampleClient) coordinates(auth, prefix string) []string {
	c.t.Helper()
	r := c.call(200, auth, "GET", strings.TrimSuffix("list/"+prefix, "/"), "", "")
	var list struct {
		Prefix      string
		Count       *int
		Coordinates []string
		Scrolls     []struct {
			Coordinate string
			SizeBytes  int `json:"size_bytes"`
			Modified   time.Time
		}
	}
	if err := json.Unmarshal([]byte(r.body), &list); err != nil || list.Prefix != prefix || list.Count == nil || *list.Count != len(list.Coordinates) || list.Coordinates == nil || len(list.Scrolls) != *list.Count {
		c.t.Errorf("%s: list/%s: %v %s", c.id, prefix, err, r.body)
	}
	for i, at := range list.Coordinates {
		text := c.call(200, auth, "GET", "read/"+escape(at, "./:-_"), "", "")
		c.check(list.Scrolls[i].Coordinate == at && list.Scrolls[i].SizeBytes == len(text.body) && !list.Scrolls[i].Modified.IsZero(), r.body)
	}
	return list.Coordinates
}

func (c *sampleClient) lists(auth, prefix string, want ...string) {
	c.t.Helper()
	got := c.coordinates(auth, prefix)
	c.check(slices.Equal(got, want), "list/"+prefix, got, "want", want)
}

// removes deletes a scroll that is there.
func (c *sampleClient) removes(coordinate string, there bool) {
	c.t.Helper()
	o := c.object(c.call(200, sendsKey, "DELETE", "delete/"+coordinate, "", ""))
	c.check(o["status"] == "ok" && o["coordinate"] == unescapedPath(coordinate) && o["deleted"] == there, o)
}

// finds searches, and checks what all samples read together.
func (c *sampleClient) finds(auth, query string, want ...string) {
	c.t.Helper()
	r := c.call(200, auth, "GET", "search?"+query, "", "")
	var found struct {
		Query   string
		Count   int
		Results []struct {
			Coordinate, Snippet, Content string
			Score                        float64
		}
	}
	err := json.Unmarshal([]byte(r.body), &found)
	c.check(err == nil && found.Count == len(want) && found.Results != nil && found.Query != "", err, r.body)
	var got []string
	for _, one := range found.Results {
		got = append(got, one.Coordinate)
		c.check(one.Score > 0 && one.Score <= 1 && one.Snippet != "" && strings.Contains(one.Content, one.Snippet), r.body)
	}
	c.check(slices.Equal(got, want), got, "want", want)
}
