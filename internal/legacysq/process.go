package legacysq

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"mirrorborn.us/sqgate/phext"
)

// call is a request as SQ understood it.
type call struct {
	id     uint64
	op     string
	path   string
	at     phext.Coordinate
	scroll string
	limit  uint64
	sum    bool
}

// routes are matched as prefixes, in this order (recorded in "query spellings").
var routes = []struct {
	method, op string
}{
	{"GET", "load"}, {"GET", "select"}, {"GET", "insert"}, {"POST", "insert"}, {"GET", "update"}, {"POST", "update"},
	{"POST", "where"}, {"GET", "delete"}, {"GET", "status"}, {"GET", "checksum"}, {"GET", "toc"}, {"GET", "get"},
	{"GET", "delta"}, {"POST", "delta"}, {"GET", "version"}, {"GET", "json-export"},
}

func route(header string) (op string, body, ok bool) {
	for _, r := range routes {
		if strings.HasPrefix(header, r.method+" /api/v2/"+r.op) {
			return r.op, r.method == "POST", true
		}
	}
	return "", false, false
}

func (s *Server) answer(conn net.Conn, id uint64, r request) {
	switch {
	case strings.HasPrefix(r.header, "OPTIONS "):
		_, _ = conn.Write([]byte(preflight)) // a client that has gone is not noticed by SQ either
		return
	case !strings.HasPrefix(r.header, "GET ") && !strings.HasPrefix(r.header, "POST "):
		respond(conn, 400, "Bad Request")
		return
	case s.config.HasKey && !r.authorized(s.config.Key):
		respond(conn, 401, "Unauthorized")
		return
	}
	p, ok := r.parameters()
	if !ok {
		return
	}
	name := p["p"]
	if s.config.DataDir != "" && (strings.Contains(name, "..") || strings.ContainsAny(name, `/\`)) {
		respond(conn, 403, "Forbidden: invalid phext path")
		return
	}
	op, body, ok := route(r.header)
	if !ok {
		respond(conn, 404, "Not Found")
		return
	}
	c := call{id: id, op: op, path: s.path(name), at: readCoordinate(p["c"]), scroll: p["s"], limit: limitOf(p["limit"]), sum: p["algo"] == "checksum"}
	if text, ok := p["content"]; ok && body {
		c.scroll = text
	}
	respond(conn, 200, s.store.locked(func() string { return s.store.process(c) }))
}

func (s *Server) path(name string) string {
	if s.config.DataDir == "" {
		return name + ".phext"
	}
	return s.config.DataDir + "/" + name + ".phext"
}

func limitOf(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 100
	}
	return n
}

func (s *store) process(c call) string {
	s.open(c.path, c.op == "load" || c.op == "json-export")
	switch c.op {
	case "insert", "update", "delete":
		answer := s.change(c)
		s.flush()
		return answer
	case "select":
		return s.scrolls[c.at]
	case "get":
		return s.get()
	case "delta":
		return s.delta(c.scroll)
	case "json-export":
		return s.export()
	}
	return s.summary(c)
}

func (s *store) change(c call) string {
	switch c.op {
	case "insert":
		s.scrolls[c.at] += c.scroll
		return fmt.Sprintf("Inserted %d bytes", len(c.scroll))
	case "update":
		s.scrolls[c.at] = c.scroll
		return fmt.Sprintf("Updated %d bytes", len(c.scroll))
	}
	old := s.scrolls[c.at]
	delete(s.scrolls, c.at)
	return fmt.Sprintf("Removed %d bytes", len(old))
}

func (s *store) summary(c call) string {
	switch c.op {
	case "load":
		return "Loaded " + c.path
	case "status":
		return fmt.Sprintf("Hosting: %s\nConnection ID: %d\nPhext Size: %d\nScrolls: %d", c.path, c.id, len(s.text()), len(s.scrolls))
	case "checksum":
		return phext.Checksum(s.text())
	case "toc":
		return textmap(s.text())
	case "where":
		return phext.Where(c.scroll, c.limit, c.sum)
	case "version":
		return s.release
	}
	return "Unexpected command ignored."
}

// get is the file itself, not what is in memory.
func (s *store) get() string {
	text, err := os.ReadFile(s.path)
	if err == nil && utf8.Valid(text) {
		return string(text)
	}
	if s.release == Release053 {
		panic("unable to open " + s.path)
	}
	return fmt.Sprintf("Unable to open requested phext %s: %v", s.path, err)
}

func (s *store) delta(manifest string) string {
	has := map[phext.Coordinate]string{}
	for _, line := range lines(manifest) {
		parts := strings.Split(line, ": ")
		if at := readCoordinate(parts[0]); len(parts) > 1 && printable(at) {
			has[at] = parts[1]
		}
	}
	var out []phext.Scroll
	for _, scroll := range s.sorted() {
		if hash, ok := has[scroll.At]; !ok || hash != phext.Checksum(scroll.Text) {
			out = append(out, scroll)
		}
	}
	for at := range has {
		if _, ok := s.scrolls[at]; !ok {
			out = append(out, phext.Scroll{At: at, Text: phext.Missing})
		}
	}
	slices.SortFunc(out, func(a, b phext.Scroll) int { return a.At.Compare(b.At) })
	return imploded(out)
}

// export escapes quotes and line breaks alone, and leaves its file behind. SQ's
// order is a hash map's; this one is by coordinate.
func (s *store) export() string {
	escape := strings.NewReplacer(`"`, `\"`, "\n", `\n`)
	entries := make([]string, 0, len(s.scrolls))
	for _, scroll := range s.sorted() {
		entries = append(entries, fmt.Sprintf("   { \"coord\": \"%s\", \"scroll\": \"%s\" }\n", show(scroll.At), escape.Replace(scroll.Text)))
	}
	text := "[\n" + strings.Join(entries, ",") + "]\n"
	_ = os.WriteFile(s.path+".json", []byte(text), 0o644) // SQ does not look whether it could
	return text
}

// summaryBytes is where the recorded toc cuts a scroll.
const summaryBytes = 32

// textmap is toc as recorded: it cuts at a byte, and panics when that was
// inside a character.
func textmap(text string) string {
	var out strings.Builder
	for _, scroll := range phext.Sequence(text) {
		line, _, _ := strings.Cut(scroll.Text[:min(len(scroll.Text), summaryBytes)], "\n")
		if len(line) < len(scroll.Text) {
			line += "..."
		}
		if !utf8.ValidString(line) {
			panic("invalid utf8")
		}
		fmt.Fprintf(&out, "* %s: %s\n", show(scroll.At), line)
	}
	return out.String()
}
