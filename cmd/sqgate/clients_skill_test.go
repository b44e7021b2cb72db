package main

import (
	"fmt"
	"strings"
	"testing"
)

// skill is the OpenClaw sq-memory skill. It uses Node's http on a kept connection,
// with the headers in Node's order.
type skill struct {
	*wire
	key, namespace, phext string
	agent                 string
}

func newSkill(t *testing.T, g *gate, id, namespace string) *skill {
	t.Helper()
	return &skill{wire: g.wire(t), key: g.key(id), namespace: namespace, phext: namespace, agent: "OpenClaw-SQ-Skill/1.0.1"}
}

// coordinate is the coordinate that the skill makes of a memory's key. It leaves
// nine numbers as they are, and makes anything else a name in its namespace.
func (s *skill) coordinate(key string) string {
	var n [9]int
	if _, err := fmt.Sscanf(key, "%d.%d.%d/%d.%d.%d/%d.%d.%d", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7], &n[8]); err == nil {
		return key
	}
	return s.namespace + ".1.1/" + strings.ReplaceAll(key, "/", ".") + "/1.1.1"
}

func (s *skill) request(method, path, body string) reply {
	s.t.Helper()
	head := []string{method + " " + path + " HTTP/1.1", "Content-Type: text/plain", "User-Agent: " + s.agent, "Authorization: Bearer " + s.key}
	if body != "" {
		head = append(head, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	head = append(head, "Host: HOST", "Connection: keep-alive")
	if method == "POST" && body == "" {
		head = append(head, "Content-Length: 0")
	}
	return s.ask(lines(head...), body)
}

func (s *skill) at(op, key string) string {
	return "/api/v2/" + op + "?p=" + uriComponent(s.phext) + "&c=" + uriComponent(s.coordinate(key))
}

// ok tells whether the skill takes an answer for a success.
func ok(r reply) bool { return r.status >= 200 && r.status < 300 }

func (s *skill) remember(key, text string) {
	s.t.Helper()
	if r := s.request("GET", s.at("update", key)+"&s="+uriComponent(text), ""); !ok(r) {
		s.t.Errorf("remember %q: %d %.200s", key, r.status, r.body)
	}
}

// recall reads a memory. A 404 gives nil, for which the skill returns null.
func (s *skill) recall(key string) *string {
	s.t.Helper()
	r := s.request("GET", s.at("select", key), "")
	switch {
	case r.status == 404:
		return nil
	case !ok(r):
		s.t.Errorf("recall %q: %d %.200s", key, r.status, r.body)
	}
	return &r.body
}

func (s *skill) recalls(key, want string) {
	s.t.Helper()
	if got := s.recall(key); got == nil || *got != want {
		s.t.Errorf("recall %q: %s, want %.200q", key, shown(got), want)
	}
}

func shown(text *string) string {
	if text == nil {
		return "null"
	}
	return fmt.Sprintf("%.200q", *text)
}

// forget deletes a memory, and tells whether that succeeded.
func (s *skill) forget(key string) bool {
	s.t.Helper()
	return ok(s.request("POST", s.at("delete", key), ""))
}

// list is the lines of toc that are not blank.
func (s *skill) list() []string {
	s.t.Helper()
	r := s.request("GET", "/api/v2/toc?p="+uriComponent(s.phext), "")
	if !ok(r) {
		s.t.Fatalf("list: %d %s", r.status, r.body)
	}
	var list []string
	for _, line := range strings.Split(r.body, "\n") {
		if strings.TrimSpace(line) != "" {
			list = append(list, line)
		}
	}
	return list
}

// memories are texts like those that agents keep.
var memories = []string{
	"Alice",
	`{"theme":"dark","list":[1,2,3],"quoted":"say \"hi\" & 100%"}`,
	"two\nlines\r\nand\ttabs",
	"caf\u00e9 \u4f60\u597d \U0001f531 !'()*~-_.",
	"a+b = c; d/e?f#g",
	strings.Repeat("ten KB of memory ", 620)[:10240],
}

// TestSQMemorySkill uses numeric coordinates, which the skill sends as they are.
func TestSQMemorySkill(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "agent")
		s := newSkill(t, g, "agent", "my-assistant")
		for i, text := range memories {
			key := fmt.Sprintf("1.1.1/1.1.1/1.%d.1", i+1)
			s.remember(key, "to be overwritten")
			s.remember(key, text)
			s.recalls(key, text)
		}
		if list := s.list(); len(list) != len(memories) || list[0] != "* 1.1.1/1.1.1/1.1.1: Alice" {
			t.Errorf("list: %q", list)
		}
		const big = "2.1.1/1.1.1/1.1.1"
		text := strings.Repeat("\u00e9x", 64<<10/7) // 64 KB, percent-encoded
		s.remember(big, text)
		s.recalls(big, text)
		for range 2 { // the second time there is nothing to forget
			if !s.forget(big) {
				t.Error("forget does not succeed")
			}
		}
		s.recalls(big, "")
	})
}

// TestSQMemorySkill010 is the first release, which never names a phext.
func TestSQMemorySkill010(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "agent")
		s := newSkill(t, g, "agent", "my-assistant")
		s.agent = "OpenClaw-SQ-Skill/0.1.0"
		c := "?c=" + uriComponent("3.1.1/1.1.1/1.1.1")
		if r := s.request("POST", "/api/v2/insert"+c, "caf\u00e9 {}"); r.body != "Inserted 8 bytes" {
			t.Errorf("remember: %d %q", r.status, r.body)
		}
		if r := s.request("GET", "/api/v2/select"+c, ""); r.status != 200 || r.body != "caf\u00e9 {}" {
			t.Errorf("recall: %d %q", r.status, r.body)
		}
		if r := s.request("GET", "/api/v2/toc"+c, ""); r.body != "* 3.1.1/1.1.1/1.1.1: caf\u00e9 {}\n" {
			t.Errorf("list: %d %q", r.status, r.body)
		}
		if r := s.request("DELETE", "/api/v2/delete"+c, ""); r.body != "Removed 8 bytes" {
			t.Errorf("forget: %d %q", r.status, r.body)
		}
	})
}
