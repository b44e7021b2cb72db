package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// These tests send what the samples in the hosted service's published documents send,
// byte for byte but for the host, the key and the date, and check what their code reads
// of the answers. The numbers H1 to H77 are those of the list of samples that the
// project keeps; there is no H24.

// impossible are the samples that cannot be met, and why.
var impossible = map[string]string{
	"H25": "expects an object from read/1.1.1, where all other samples read a text",
	"H27": "as H25",
	"H33": "listKeys takes the second part of a coordinate for the key, which it is not",
	"H52": "expects an empty text where nothing is, and the reference has a 404 with an object; it also writes without a key",
	"H64": "expects an object from toc, which SQ answers as text",
	"H65": "expects an object from select, which SQ answers as text; info has no documented answer",
}

const full = origin

// samples are what the documents' code does, in their order.
var samples = []struct {
	ids     string
	headers []string
	run     func(c *sampleClient)
}{
	{"H1 H2 H60", curlHeaders, func(c *sampleClient) {
		for _, auth := range []string{sendsKey, keyless} {
			o := c.object(c.call(200, auth, "GET", "version", "", ""))
			_, uptime := o["uptime_seconds"].(float64)
			instance, _ := o["instance"].(string)
			c.check(o["version"] == "0.5.5" && o["status"] == "ok" && uptime && (instance == "") == (c.base == ""), o)
		}
	}},
	{"H3 H4 H5 H6 H10 H11", curlHeaders, func(c *sampleClient) {
		const text = "Psychohistory begins now" // 24 bytes
		c.misses(anon, full)
		c.write("PUT", full, asText, "to be replaced")
		c.write("POST", full, asText, text)
		c.reads(anon, full, text)
		c.write("PUT", "1.1.1/1.1.1/1.1.2", asText, "two")
		c.write("PUT", "1.1.1/1.1.1/1.2.1", asText, "three")
		c.write("PUT", "1.1.1/2.1.1/1.1.1", asText, "elsewhere")
		c.lists(sendsKey, "1.1.1/1.1.1", full, "1.1.1/1.1.1/1.1.2", "1.1.1/1.1.1/1.2.1")
		c.removes(full, true)
		c.removes(full, false)
		c.misses(anon, full)
	}},
	{"H7", curlHeaders, func(c *sampleClient) {
		c.put(full, "Hari Seldon on PsychoHistory")
		c.put("a.name", "nothing of it")
		c.finds(sendsKey, "q=psychohistory", full)
		c.finds(sendsKey, "q=nowhere")
	}},
	{"H8 H23", requestsHeaders, sdk},
	{"H9", axiosHeaders, sdk},
	{"H22", fetchHeaders, sdk},
	{"H12", requestsHeaders, func(c *sampleClient) {
		c.put("1.1.1/1.1.1/index", "the index")
		for i := range 100 {
			c.put(fmt.Sprintf("1.1.1/1.1.1/%d.1.1", i), fmt.Sprint("chapter ", i))
		}
		got := c.coordinates(sendsKey, "1.1.1/1.1.1")
		c.check(len(got) == 101 && got[0] == "1.1.1/1.1.1/0.1.1" && got[99] == "1.1.1/1.1.1/99.1.1" && got[100] == "1.1.1/1.1.1/index", got)
		c.reads(sendsKey, "1.1.1/1.1.1/0.1.1", "chapter 0")
		c.reads(sendsKey, "1.1.1/1.1.1/1.1.1", "chapter 1")
	}},
	{"H13", curlHeaders, quick}, {"H14", fetchHeaders, quick}, {"H15", requestsHeaders, quick}, {"H16", goHeaders, quick}, {"H17", reqwestHeaders, quick},
	{"H18", requestsHeaders, func(c *sampleClient) {
		c.lists(anon, "logs.1.1")
		c.check(c.object(c.call(401, keyless, "PUT", "write/logs.1.1", untyped, "entry"))["code"] == "UNAUTHORIZED")
		c.put("logs.1.1", "entry 1")
		c.put("logs.1.2", "entry 2")
		c.lists(anon, "logs.1.1", "logs.1.1", "logs.1.2")
	}},
	{"H19 H20 H21", curlHeaders, func(c *sampleClient) {
		const text = "Hello from the mirrorborn" // 25 bytes
		c.call(200, sendsKey, "GET", "version", "", "")
		c.write("POST", full, asText, text)
		c.write("PUT", full, asText, text)
		c.reads(sendsKey, full, text)
	}},
	{"H26 H28", curlHeaders, func(c *sampleClient) {
		c.write("PUT", "1.1.1", asForm, "Hello, phext! a=b&c=1.1.2")
		c.write("PUT", "1.1.2", asForm, "c=9.9.9&content=raw")
		c.write("PUT", "1.1.3", asForm, `{"coordinate":"9.9.9","content":"raw"}`)
		c.reads(anon, "1.1.2", "c=9.9.9&content=raw")
		c.lists(anon, "1.1.1", full, "1.1.1/1.1.1/1.1.2", "1.1.1/1.1.1/1.1.3")
	}},
	{"H29", requestsHeaders, func(c *sampleClient) {
		c.misses(anon, "journal.2026.2/19.1.1")
		c.put("journal.2026.2/20.1.1", "today")
		c.put("journal.2026.2/21.1.1", "tomorrow")
		c.reads(anon, "journal.2026.2/20.1.1", "today")
	}},
	{"H30 H50", fetchHeaders, func(c *sampleClient) {
		c.lists(anon, "docs.readme.1")
		for i := range 12 { // each version goes behind the last one of the list
			next := len(c.coordinates(anon, "docs.readme.1")) + 1
			c.check(next == i+1, next)
			c.write("PUT", fmt.Sprintf("docs.readme.%d", next), asUTF8, fmt.Sprint("version ", next))
		}
		got := c.coordinates(anon, "docs.readme.1")
		c.check(got[len(got)-1] == "docs.readme.12", got)
		highest := 0
		for _, at := range got {
			n, err := strconv.Atoi(at[strings.LastIndex(at, ".")+1:])
			c.check(err == nil, err)
			highest = max(highest, n)
		}
		c.reads(anon, fmt.Sprintf("docs.readme.%d", highest), "version 12")
	}},
	{"H31 H49", requestsHeaders, func(c *sampleClient) {
		for _, prefix := range []string{"logs.auth.1", "logs.audit.1"} {
			stem := strings.TrimSuffix(prefix, "1")
			for i := range 11 {
				entry := fmt.Sprintf(`{"time": %d, "event": "login"}`, i+1)
				c.write("PUT", fmt.Sprint(stem, len(c.coordinates(anon, prefix))+1), asJSON, entry)
			}
			got := c.coordinates(anon, prefix)
			c.check(len(got) == 11, got)
			c.reads(anon, got[len(got)-1], `{"time": 11, "event": "login"}`)
		}
	}},
	{"H32 H39", goHeaders, func(c *sampleClient) {
		const key = "kv.user:alice:email.1"
		c.misses(anon, key)
		c.put(key, "alice@example.com")
		c.put("kv.user:bob:email.1", "bob@example.com")
		c.reads(anon, key, "alice@example.com")
		c.lists(anon, "kv.user:alice:email.1", key)
		c.removes(key, true)
		c.misses(anon, key)
	}},
	{"H33", fetchHeaders, func(c *sampleClient) {
		for _, key := range []string{"database_url", "debug"} {
			c.write("PUT", "config.myapp.1/prod."+key+".1", asJSON, `{"value": 5432}`)
		}
		c.write("PUT", "config.myapp.1/dev.debug.1", asJSON, "true")
		c.reads(anon, "config.myapp.1/prod.database_url.1", `{"value": 5432}`)
		c.misses(anon, "config.myapp.1/prod.none.1")
		c.lists(anon, "config.myapp.1/prod.1.1", "config.myapp.1/prod.database_url.1", "config.myapp.1/prod.debug.1")
	}},
	{"H34", requestsHeaders, func(c *sampleClient) {
		c.misses(anon, "tags.python.1")
		c.write("PUT", "tags.python.1", asJSON, `["docs.content.note-001"]`)
		c.put("docs.content.note-001", "a note")
		c.put("docs.content.note-002", "another note")
		c.reads(anon, "tags.python.1", `["docs.content.note-001"]`)
		c.reads(anon, "docs.content.note-001", "a note")
	}},
	{"H35", requestsHeaders, func(c *sampleClient) {
		for i := 1; i <= 3; i++ {
			c.put(fmt.Sprintf("data.batch.%d", i), fmt.Sprint("item ", i))
		}
		c.lists(sendsKey, "data.batch.1", "data.batch.1", "data.batch.2", "data.batch.3")
	}},
	{"H36", reqwestHeaders, notes}, {"H37", curlHeaders, notes}, {"H40", append(slices.Clone(fetchHeaders), asText), notes},
	{"H38", curlHeaders, func(c *sampleClient) {
		c.write("PUT", "test.hello.1", asForm, "Hello, SQ!")
		c.reads(anon, "test.hello.1", "Hello, SQ!")
		c.lists(anon, "test.1.1", "test.hello.1")
		c.call(200, keyless, "HEAD", "health", "", "")
		c.check(c.object(c.call(200, keyless, "GET", "health", "", ""))["status"] == "ok")
	}},
	{"H41", requestsHeaders, func(c *sampleClient) {
		const history = "langchain.20260220140530.history"
		c.misses(anon, history)
		c.put(history, `[{"type": "human"}]`)
		c.put("langchain.20260220140531.history", "[]")
		c.reads(anon, history, `[{"type": "human"}]`)
		c.removes(history, true)
		c.misses(anon, history)
	}},
	{"H42", requestsHeaders, func(c *sampleClient) {
		c.put("docs.intro", "What is a phext? A text in nine dimensions")
		c.put("other.intro", "What is a phext? Another text")
		c.finds(anon, "q=phext&namespace=docs", "docs.intro")
	}},
	{"H43", requestsHeaders, func(c *sampleClient) {
		const node = "llamaindex.docs.a1b2c3d4e5f6a7b8c9d0"
		c.write("PUT", node, asJSON, `{"text": "node", "metadata": {}}`)
		c.reads(anon, node, `{"text": "node", "metadata": {}}`)
	}},
	{"H44", fetchHeaders, func(c *sampleClient) {
		c.write("PUT", "memory.today.summary", asUTF8, "the summary")
		c.write("PUT", "memory.today.context", asUTF8, "the context")
		c.reads(anon, "memory.today.context", "the context")
	}},
	{"H45", requestsHeaders, func(c *sampleClient) {
		c.put("autogpt.memory.goal", "world peace")
		c.put("autogpt.memory.step", "2")
		c.reads(anon, "autogpt.memory.goal", "world peace")
		c.lists(anon, "autogpt.memory.1", "autogpt.memory.goal", "autogpt.memory.step")
	}},
	{"H46", requestsHeaders, func(c *sampleClient) {
		notes(c)
		c.put("notes.found.1", "needle in a haystack")
		c.finds(sendsKey, "q=needle&limit=10", "notes.found.1")
	}},
	{"H47", fetchHeaders, notes},
	{"H48", requestsHeaders, func(c *sampleClient) {
		const session = "agents.alpha.memory/2026.2.20/session.15.state"
		c.write("PUT", session, asJSON, `{"step": 3}`)
		c.write("PUT", "agents.alpha.memory/2026.2.21/session.15.state", asJSON, `{"step": 4}`)
		c.reads(sendsKey, session, `{"step": 3}`)
	}},
	{"H51", requestsHeaders, func(c *sampleClient) {
		for _, at := range []string{"metrics.cpu.1/2026.2.20/9.30.1", "metrics.cpu.1/2026.2.20/10.30.1", "metrics.cpu.1/2026.2.2/9.30.1", "metrics.mem.1/2026.2.20/9.30.1"} {
			c.put(at, "0.5")
		}
		c.lists(anon, "metrics.cpu.1/2026.2.20", "metrics.cpu.1/2026.2.20/9.30.1", "metrics.cpu.1/2026.2.20/10.30.1")
	}},
	{"H52", requestsHeaders, func(c *sampleClient) {
		c.misses(anon, "locks.resource.1") // the sample wants an empty text
		c.call(401, keyless, "PUT", "write/locks.resource.1", untyped, "owner")
		c.call(401, keyless, "DELETE", "delete/locks.resource.1", "", "")
	}},
	{"H53 H54 H55", requestsHeaders, func(c *sampleClient) {
		c.write("PUT", "users.42.profile", asJSON, `{"email": "will@example.com"}`)
		c.write("PUT", "users.43.profile", asJSON, `{"email": "bob@example.com"}`)
		c.reads(anon, "users.42.profile", `{"email": "will@example.com"}`)
		c.call(401, keyless, "PUT", "write/users.42.profile.v2", asJSON, "{}")
		c.write("PUT", "users.42.profile.v2", asJSON, `{"email": "w@example.org"}`)
		c.reads(anon, "users.42.profile", `{"email": "will@example.com"}`)
		c.finds(sendsKey, "q=@example.com", "users.43.profile", "users.42.profile")
	}},
	{"H56 H57", curlHeaders, func(c *sampleClient) {
		c.write("PUT", full, asForm, "the arena")
		c.write("POST", "1.1.1/1.1.1/1.1.2", asForm, "the second")
		for i, key := range c.writers { // under an id, three users write with keys of their own
			user := *c
			user.key = key
			user.write([]string{"PUT", "POST"}[i%2], full, asForm, "the arena")
			user.reads(sendsKey, "1.1.1/1.1.1/1.1.2", "the second")
		}
		c.reads(anon, full, "the arena")
		c.finds(anon, "q=arena", full)
		c.lists(anon, "1.1.1/1.1.1", full, "1.1.1/1.1.1/1.1.2")
	}},
	{"H58", curlHeaders, func(c *sampleClient) {
		c.lists(anon, "2.3.5/7.11.13")
		c.put("2.3.5/7.11.13/17.19.23", "taken")
		c.put("2.3.5/7.11.130/1.1.1", "next to it")
		c.lists(anon, "2.3.5/7.11.13", "2.3.5/7.11.13/17.19.23")
		c.lists(sendsKey, "1.1.1/1.1.1")
	}},
	{"H59", curlHeaders, func(c *sampleClient) {
		c.put(full, "one")
		c.put("a.name", "two")
		c.check(c.call(200, sendsKey, "GET", "select?c="+full, "", "").body == "one")
		c.lists(sendsKey, "", full, "a.name")
	}},
	{"H61", curlHeaders, func(c *sampleClient) { c.call(401, keyless, "PUT", "write/1.1.1", asForm, "x") }},
	{"H62", curlHeaders, func(c *sampleClient) {
		for _, at := range []string{"5.7.1990/1.1.1/1.1.1", "5.7.1991/1.1.1/1.1.1", "2024.11.17/1.1.1/1.1.1", "2025.11.17/1.1.1/1.1.1", "100.1.1/1.1.1/1.1.1"} {
			c.write("POST", at, asForm, "at "+at)
		}
		c.reads(anon, "5.7.1990/1.1.1/1.1.1", "at 5.7.1990/1.1.1/1.1.1")
		c.reads(anon, "2024.11.17/1.1.1/1.1.1", "at 2024.11.17/1.1.1/1.1.1")
		c.reads(anon, "100.1.1/1.1.1/1.1.1", "at 100.1.1/1.1.1/1.1.1")
	}},
	{"H63", fetchHeaders, func(c *sampleClient) {
		for _, at := range []string{full, "2.3.5/7.11.13/17.19.23", "9.9.9/9.9.9/9.9.9", "1.5.2/3.7.3/9.1.1"} {
			c.put(at, "text at "+at)
			c.reads(anon, at, "text at "+at)
		}
	}},
	{"H64", append(slices.Clone(fetchHeaders), asJSON), func(c *sampleClient) {
		o := c.object(c.call(200, sendsKey, "POST", "write", untyped, `{"coordinate":"`+full+`","content":"by JSON"}`))
		c.check(o["ok"] == true && o["coordinate"] == full && o["bytes"] == 7.0, o)
		o = c.object(c.call(200, sendsKey, "GET", "read?c="+full, "", ""))
		c.check(o["content"] == "by JSON" && o["coordinate"] == full && o["exists"] == true, o)
		o = c.object(c.call(200, sendsKey, "GET", "read?c=2.3.5", "", ""))
		c.check(o["content"] == "" && o["coordinate"] == "2.3.5" && o["exists"] == false, o)
		c.check(c.call(200, sendsKey, "GET", "toc?c="+full, "", "").body == "* "+full+": by JSON\n")
	}},
	{"H65", fetchHeaders, func(c *sampleClient) {
		for i := 1; i <= 25; i++ {
			c.put(fmt.Sprintf("1.1.1/1.1.1/1.1.%d", i), fmt.Sprint("scroll ", i))
		}
		o := c.object(c.call(200, sendsKey, "GET", "list?page=2&limit=20", "", ""))
		c.check(o["count"] == 5.0 && o["total"] == 25.0, o)
		c.finds(sendsKey, "q=%22scroll+25%22", "1.1.1/1.1.1/1.1.25")
		c.check(c.call(200, sendsKey, "GET", "select?coordinate="+full, "", "").body == "scroll 1")
	}},
	{"H66 H67", fetchHeaders, func(c *sampleClient) {
		c.check(c.call(200, anon, "GET", "select?p=arena&c="+full, "", "").body == "")
		c.call(200, sendsKey, "GET", "update?p=hello&c="+full+"&s=a+b", "", "")
		c.check(c.call(200, anon, "GET", "select?p=hello&c="+full, "", "").body == "a b")
		c.check(c.call(200, anon, "GET", "toc?p=hello", "", "").body == "* "+full+": a b\n")
		c.call(200, sendsKey, "GET", "delete?p=hello&c="+full, "", "")
	}},
	{"H68", curlHeaders, func(c *sampleClient) {
		o := c.object(c.call(200, sendsKey, "PUT", "/scroll/"+full, asForm, "by the start page"))
		c.check(o["status"] == "ok" && o["coordinate"] == full && o["bytes_written"] == 17.0, o)
		c.check(c.call(200, sendsKey, "GET", "/scroll/"+full, "", "").body == "by the start page")
		o = c.object(c.call(200, sendsKey, "GET", "/scrolls", "", ""))
		c.check(o["count"] == 1.0, o)
	}},
	{"H69 H70 H71", fetchHeaders, func(c *sampleClient) {
		const at, other = "my-assistant.1.1/user.name/1.1.1", "my-assistant.1.1/user.home/1.1.1"
		c.call(200, sendsKey, "GET", "update?p=m&c="+uriComponent(at)+"&s=Will", "", "")
		c.check(c.call(200, sendsKey, "GET", "select?p=m&c="+uriComponent(at), "", "").body == "Will")
		c.call(200, sendsKey, "POST", "insert?p=m&c="+uriComponent(other), asUTF8, "Aurora")
		c.check(c.call(200, sendsKey, "GET", "toc?p=m", "", "").body == "* "+at+": Will\n* "+other+": Aurora\n")
		c.call(200, sendsKey, "POST", "delete?p=m&c="+uriComponent(at), untyped, "")
		c.call(200, sendsKey, "DELETE", "delete?p=m&c="+uriComponent(other), "", "")
		c.call(404, sendsKey, "GET", "select?p=m&c="+uriComponent(at), "", "")
	}},
	{"H72", curlHeaders, func(c *sampleClient) {
		c.call(200, sendsKey, "POST", "insert?p=mesh&c="+full, asForm, "raw & text")
		c.check(c.call(200, sendsKey, "GET", "select?p=mesh&c="+full, "", "").body == "raw & text")
		c.call(200, sendsKey, "DELETE", "delete?p=mesh&c="+full, "", "")
		c.call(200, keyless, "GET", "version", "", "")
	}},
	{"H73", curlHeaders, func(c *sampleClient) {
		c.misses(anon, "9.9.9/9.9.9/9.9.9")
		c.call(401, keyless, "GET", "/etc/passwd", "", "") // any 4xx will do
	}},
	{"H74 H75 H76", curlHeaders, func(c *sampleClient) {
		c.call(200, sendsKey, "POST", "insert", asJSON, `{"phext":"user_data.phext","coordinate":"`+full+`","content":"magic"}`)
		c.check(c.call(200, sendsKey, "GET", "select?p=user_data.phext&c="+full, "", "").body == "magic")
		c.call(200, sendsKey, "POST", "/insert", asForm, "p=f&c="+url.QueryEscape(full)+"&text=founding+nine")
		c.check(c.call(200, sendsKey, "GET", "select?p=f&c="+full, "", "").body == "founding nine")
		c.call(200, sendsKey, "GET", "/load?p=f&c="+full, "", "")
		c.call(200, sendsKey, "PUT", "update?p=f&c="+full+"&s=put", untyped, "")
		c.call(200, sendsKey, "DELETE", "delete?p=f&c="+full, "", "")
		c.call(200, sendsKey, "DELETE", "delete?p=user_data.phext&c="+full, "", "")
	}},
	{"H77", curlHeaders, func(c *sampleClient) {
		c.put(full, "one")
		c.put("1.1.1/1.1.1/1.1.2", "two")
		const both = `[{"coordinate":"1.1.1/1.1.1/1.1.1","scroll":"one"},{"coordinate":"1.1.1/1.1.1/1.1.2","scroll":"two"}]`
		c.check(c.call(200, sendsKey, "GET", "query?p=&from="+full+"&to=9.9.9/9.9.9/9.9.9", "", "").body == both)
		c.check(c.call(200, sendsKey, "GET", "query?set="+full+",1.1.1/1.1.1/1.1.2", "", "").body == both)
		c.check(c.call(200, sendsKey, "POST", "query?p=", asForm, full+"\n1.1.1/1.1.1/1.1.2").body == both)
	}},
}

// sdk is what the SDKs in the documents do.
func sdk(c *sampleClient) {
	c.write("PUT", full, asText, "Hello, world")
	c.reads(anon, full, "Hello, world")
	c.lists(sendsKey, "1.1.1/1.1.1", full)
	c.misses(sendsKey, "1.1.1/1.1.1/1.1.2")
}

// quick is the quick reference, in all its languages.
func quick(c *sampleClient) {
	c.misses(anon, "1.1.1")
	c.put("1.1.1", "hello phext")
	c.reads(anon, "1.1.1", "hello phext")
	c.lists(anon, "1.1.1", full)
	c.finds(anon, "q=hello", full)
}

// notes is what the client classes in the documents do.
func notes(c *sampleClient) {
	c.misses(sendsKey, "notes.today.1")
	c.put("notes.today.1", "buy milk")
	c.put("notes.later.1", "call Bob")
	c.reads(sendsKey, "notes.today.1", "buy milk")
	c.lists(sendsKey, "notes.1.1", "notes.later.1", "notes.today.1")
	c.removes("notes.today.1", true)
	c.removes("notes.later.1", true)
	c.misses(sendsKey, "notes.today.1")
	c.lists(sendsKey, "notes.1.1")
}

// TestPublishedSamples runs them under all forms of the address.
func TestPublishedSamples(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "abc123", "bob", "alice", "carol", "dave")
		g.args = []string{"--public-reads-per-minute", "100000"}
		g.takeTokens()
		g.set("abc123", "public", map[string]any{"phexts": []string{"*"}, "access": "read"})
		g.set("abc123", "writers", []string{"alice", "carol", "dave"})
		g.writeFile()
		g.start()
		g.must("bob", "PUT", "/api/v2/write/"+full, "Bob's hello, psychohistory", 200)
		for _, base := range []string{"", "/abc123", "/t/abc123", "/abc123//"} {
			w := g.wire(t)
			for _, s := range samples {
				c := &sampleClient{t: t, w: w, key: g.key("abc123"), base: base, id: s.ids, headers: s.headers}
				if base != "" {
					c.writers = []string{g.key("alice"), g.key("carol"), newToken(t, jwt.MapClaims{"tenant": "dave"})}
				}
				s.run(c)
				g.clear(t, "abc123")
			}
		}
		if got := g.get("bob", "/api/v2/read/"+full); got != "Bob's hello, psychohistory" {
			t.Errorf("Bob reads %q", got)
		}
	})
}

// clear deletes all scrolls of the unnamed phext.
func (g *gate) clear(t *testing.T, id string) {
	t.Helper()
	var list struct{ Coordinates []string }
	if err := json.Unmarshal([]byte(g.get(id, "/api/v2/list")), &list); err != nil {
		t.Fatal(err)
	}
	for _, at := range list.Coordinates {
		g.must(id, "DELETE", "/api/v2/delete/"+escape(at, "./:-_"), "", 200)
	}
}

// TestEverySampleIsTested has none left out of the tables.
func TestEverySampleIsTested(t *testing.T) {
	all := ""
	for _, s := range samples {
		all += " " + s.ids
	}
	for id := range impossible {
		all += " " + id
	}
	known := map[string]bool{}
	for _, id := range strings.Fields(all) {
		known[id] = true
	}
	for n := 1; n <= 77; n++ {
		if id := fmt.Sprint("H", n); n != 24 && !known[id] {
			t.Errorf("%s is in no table", id)
		}
	}
}
