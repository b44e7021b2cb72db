package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/phext"
)

// notepad is Phext Notepad 0.4.2. Its settings have an endpoint and the name of a
// phext, but no key.
type notepad struct {
	*wire
	endpoint  string // its path
	phext     string
	framework bool // send like .NET Framework, which waits for 100 Continue before a body
}

// newNotepad is a Notepad with a new path key of the tenant in its endpoint.
func newNotepad(t *testing.T, g *gate, id, name string) *notepad {
	t.Helper()
	key := g.newPathKey(id)
	if public := "https://sq.mirrorborn.us/k/" + key + "/api/v2"; len(public) > longestEndpoint {
		t.Fatalf("the endpoint %q does not fit", public)
	}
	return &notepad{wire: g.wire(t), endpoint: "/k/" + key + "/api/v2", phext: name}
}

// target is the request target of an action at a coordinate.
func (n *notepad) target(action, coordinate string) string {
	return n.endpoint + "/" + action + "?p=" + escape(n.phext, "-_.~") + "&c=" + coordinate
}

func (n *notepad) get(action, coordinate string) string {
	n.t.Helper()
	r := n.ask(lines("GET "+n.target(action, coordinate)+" HTTP/1.1", "Host: HOST"), "")
	if r.status != 200 {
		n.t.Fatalf("%s %s: %d %s", action, coordinate, r.status, r.body)
	}
	return r.body
}

func (n *notepad) post(action, coordinate, body string) string {
	n.t.Helper()
	head := []string{"POST " + n.target(action, coordinate) + " HTTP/1.1", "Host: HOST",
		"Content-Type: application/phext; charset=utf-8", fmt.Sprintf("Content-Length: %d", len(body))}
	if n.framework && body != "" {
		head = append(head[:1], "Content-Type: application/phext; charset=utf-8", "Host: HOST", fmt.Sprintf("Content-Length: %d", len(body)), "Expect: 100-continue")
	}
	n.send(lines(head...) + "\r\n\r\n")
	if n.framework && body != "" {
		if r := n.answer("POST"); r.status != 100 {
			n.t.Fatalf("%s waits for 100 and gets %d %s", action, r.status, r.body)
		}
	}
	n.send(body) // in its own packet, as .NET sends long bodies
	r := n.answer("POST")
	if r.status != 200 {
		n.t.Fatalf("%s %s: %d %s", action, coordinate, r.status, r.body)
	}
	return r.body
}

// push sends every scroll of a phext.
func (n *notepad) push(p *phext.Phext) {
	n.t.Helper()
	for s := range p.All() {
		if got, want := n.post("update", s.At.String(), s.Text), fmt.Sprintf("Updated %d bytes", len(s.Text)); got != want {
			n.t.Errorf("push of %v: %q, want %q", s.At, got, want)
		}
	}
}

// sync sends the manifest of have, takes what the server has differently, and
// pushes what the server lacks. It returns the new phext and the server's answer.
func (n *notepad) sync(have *phext.Phext) (*phext.Phext, string) {
	n.t.Helper()
	answer := n.post("delta", origin, have.Manifest())
	for s := range phext.Parse(answer).All() {
		if s.Text != phext.Missing {
			have = have.With(s.At, s.Text)
			continue
		}
		mine, _ := have.Select(s.At)
		n.post("update", s.At.String(), mine)
	}
	return have, answer
}

// odyssey is a phext of 700 KB.
func odyssey(t *testing.T) *phext.Phext {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "phext", "testdata", "the-odyssey.phext"))
	if err != nil {
		t.Fatal(err)
	}
	if len(text) < 700_000 {
		t.Fatalf("the phext has %d bytes", len(text))
	}
	return phext.Parse(string(text))
}

// TestPhextNotepad pushes a phext of 700 KB, pulls it on a second machine, edits it
// on both and syncs.
func TestPhextNotepad(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "reader")
		book := odyssey(t)
		first := newNotepad(t, g, "reader", "the odyssey")
		first.push(book)
		if first.get("get", origin) != book.Render() {
			t.Error("the phext pulled is not the one pushed")
		}
		if got := first.get("toc", origin); got != book.Textmap() {
			t.Errorf("toc: %.300q", got)
		}
		for s := range book.All() {
			if first.get("select", s.At.String()) != s.Text {
				t.Errorf("pull of %v is not what was pushed", s.At)
			}
		}
		if stored, err := os.ReadFile(filepath.Join(g.dataDir("reader"), "the odyssey.phext")); err != nil || string(stored) != book.Render() {
			t.Errorf("%v: the file is not the phext", err)
		}

		second := &notepad{wire: g.wire(t), endpoint: first.endpoint, phext: first.phext}
		copied, answer := second.sync(phext.Parse(""))
		if answer != book.Render() || copied.Render() != book.Render() {
			t.Error("a first sync does not bring all of it")
		}
		if _, answer = second.sync(copied); answer != "" {
			t.Errorf("a sync of what is alike answers %.300q", answer)
		}
		bothSides(t, first, second, book)
	})
}

// bothSides edits on two machines, neither of which has seen the other's edits.
func bothSides(t *testing.T, first, second *notepad, book *phext.Phext) {
	t.Helper()
	edited := phext.Coordinate{1, 1, 1, 1, 1, 1, 3, 1, 1}
	added, far := phext.Coordinate{1, 1, 1, 2, 1, 1, 1, 1, 1}, phext.Coordinate{2, 1, 1, 1, 1, 1, 1, 1, 7}
	first.post("update", edited.String(), "sing in me, muse \u00e9\U0001f531\r\n")
	first.post("update", added.String(), "")
	mine := book.With(far, "only on the second machine")
	now, answer := second.sync(mine)
	want := phext.Of([]phext.Scroll{{At: edited, Text: "sing in me, muse \u00e9\U0001f531\r\n"}, {At: far, Text: phext.Missing}}).Render()
	if answer != want {
		t.Errorf("sync answers %.300q, want %.300q", answer, want)
	}
	if got := first.get("get", origin); got != now.Render() {
		t.Errorf("after both synced the server has %d bytes, the machine %d", len(got), len(now.Render()))
	}
	if _, answer = second.sync(now); answer != "" {
		t.Errorf("a last sync answers %.300q", answer)
	}
}

// TestPhextNotepadOnNETFramework uses the older HttpClient, which waits for 100
// Continue before it sends a body.
func TestPhextNotepadOnNETFramework(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "reader")
		n := newNotepad(t, g, "reader", "notes")
		n.framework = true
		p := phext.Of([]phext.Scroll{{At: phext.Origin(), Text: "one"}, {At: phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 2, 1}, Text: strings.Repeat("long ", 20000)}})
		n.push(p)
		if got, answer := n.sync(phext.Parse("")); answer != p.Render() || got.Render() != p.Render() {
			t.Error("what was pushed does not come back")
		}
	})
}

// TestPhextNotepadBefore042 is an older release. It puts everything into the URL,
// also scrolls and the manifest of a sync.
func TestPhextNotepadBefore042(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "reader")
		n := newNotepad(t, g, "reader", "choose-your-own-adventure")
		text := "You & I + 50% of it?\n\u201cyes\u201d \U0001f531\ttab"
		r := n.ask(lines("GET "+n.target("update", origin)+"&s="+escape(text, "-_.~")+" HTTP/1.1", "Host: HOST"), "")
		if want := fmt.Sprintf("Updated %d bytes", len(text)); r.status != 200 || r.body != want {
			t.Errorf("push: %d %q, want %q", r.status, r.body, want)
		}
		if got := n.get("select", origin); got != text {
			t.Errorf("pull: %q", got)
		}
		manifest := phext.Of([]phext.Scroll{{At: phext.Origin(), Text: text}}).Manifest()
		for s, want := range map[string]string{strings.Repeat("0123456789abcdef", 2): text, manifest: "", manifest + "1.1.1/1.1.1/1.1.2: 0\n": "\x17" + phext.Missing} {
			n.want(200, want, lines("GET "+n.target("delta", origin)+"&s="+escape(s, "-_.~")+" HTTP/1.1", "Host: HOST"), "")
		}
	})
}

// TestDeltaForEveryManifest compares delta with what the format says, for manifests
// that are complete, partial, wrong, empty or meaningless.
func TestDeltaForEveryManifest(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "reader")
		n := newNotepad(t, g, "reader", "n")
		p := phext.Of([]phext.Scroll{{At: phext.Origin(), Text: "one"}, {At: phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1, 3}, Text: "three"}, {At: phext.Coordinate{2, 1, 1, 1, 1, 1, 1, 1, 1}, Text: "nine"}})
		n.push(p)
		one := origin + ": " + phext.Checksum("one") + "\n"
		for _, c := range []struct{ manifest, want string }{
			{p.Manifest(), ""},
			{"", p.Render()},
			{"nothing of any meaning\n\n", p.Render()},
			{one, "\x17\x17three\x01nine"},
			{strings.TrimSuffix(one, "\n"), "\x17\x17three\x01nine"},
			{strings.ReplaceAll(one, "\n", "\r\n"), "\x17\x17three\x01nine"},
			{strings.ReplaceAll(one, "/", ";"), "\x17\x17three\x01nine"},
			{origin + ": " + strings.Repeat("0", 32), p.Render()},
			{strings.ToUpper(one), p.Render()},
			{p.Manifest() + "1.1.1/1.1.1/1.1.2: " + strings.Repeat("0", 32) + "\n", "\x17" + phext.Missing},
		} {
			if got := n.post("delta", origin, c.manifest); got != c.want {
				t.Errorf("manifest %q: %q, want %q", c.manifest, got, c.want)
			}
		}
	})
}
