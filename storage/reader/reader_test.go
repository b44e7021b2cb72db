package reader

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
)

// want asks twice: an answer that was kept is no other than the first.
func (w *world) want(op, text string) {
	w.Helper()
	for _, which := range []string{"first", "second"} {
		a, err := w.read(op, "")
		w.check(err)
		if a.Text != text || a.ETag != etag.Of(text) {
			w.Errorf("the %s %s: %s, %q, want %q", which, op, a.ETag, a.Text, text)
		}
		a.Release()
	}
}

func TestKeptAnswersAreThoseOfNow(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.want("toc", "* 1.1.1/1.1.1/1.1.3: the scroll\n")
	w.want("get", "\x17\x17the scroll")
	w.want("checksum", phext.Checksum("\x17\x17the scroll"))
	w.want("json-export", "[\n   { \"coord\": \"1.1.1/1.1.1/1.1.3\", \"scroll\": \"the scroll\" }\n]\n")

	// As a write does it: readers see the file as it was, until it is done.
	before := w.version("notes.phext")
	after := before.With(phext.Origin(), "new\nline")
	frozen := w.Dirs.Cache.Freeze(map[string]*cache.Version{w.path("notes.phext"): before})
	w.put("notes.phext", after.Text())
	w.want("toc", "* 1.1.1/1.1.1/1.1.3: the scroll\n")
	id, err := fsutil.Identify(w.path("notes.phext"))
	w.check(err)
	frozen.Publish(map[string]*cache.Version{w.path("notes.phext"): after.WithID(id)})
	w.want("toc", "* 1.1.1/1.1.1/1.1.1: new...\n* 1.1.1/1.1.1/1.1.3: the scroll\n")
	w.want("get", "new\nline\x17\x17the scroll")
	w.want("checksum", phext.Checksum("new\nline\x17\x17the scroll"))

	w.put("notes.phext", "by another's hand")
	w.want("toc", "* 1.1.1/1.1.1/1.1.1: by another's hand\n")
	w.check(os.Remove(w.path("notes.phext")))
	w.want("toc", "* 1.1.1/1.1.1/1.1.1: \n")
	if _, err := os.Stat(w.path("notes.phext")); !os.IsNotExist(err) {
		t.Errorf("a read has made a file: %v", err)
	}
	if w.sq.lent != 0 {
		t.Errorf("reads from memory have started %d children", w.sq.lent)
	}
	w.wantUsed(0)
}

func TestKeptAnswersShowTheNamesOfNow(t *testing.T) {
	w := newWorld(t, 1<<20)
	page := w.version("notes.phext")
	w.want("toc", "* 1.1.1/1.1.1/1.1.3: the scroll\n")
	for _, name := range []string{"a.name", "another.name", `"a".name`} {
		w.put("notes.names.phext", "\x17\x17"+name)
		w.want("toc", "* "+name+": the scroll\n")
	}
	w.want("json-export", "[\n   { \"coord\": \"\\\"a\\\".name\", \"scroll\": \"the scroll\" }\n]\n")
	w.check(os.Remove(w.path("notes.names.phext")))
	w.want("toc", "* 1.1.1/1.1.1/1.1.3: the scroll\n")
	w.want("json-export", "[\n   { \"coord\": \"1.1.1/1.1.1/1.1.3\", \"scroll\": \"the scroll\" }\n]\n")
	if w.version("notes.phext") != page {
		t.Error("the phext was read again, and this has shown nothing")
	}
}

// TestReads of every kind, of a phext that is there and of one that is not.
func TestReads(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.put("notes.names.phext", "\x17\x17a.name")
	for _, test := range []struct {
		op, query string
		text      string
		tagged    bool
	}{
		{"select", "c=1.1.1/1.1.1/1.1.3", "the scroll", true},
		{"select", "c=a.name", "the scroll", true},
		{"select", "c=1.1.1/1.1.1/1.1.4", "", true},
		{"select", "p=none&c=1.1.1/1.1.1/1.1.3", "", true},
		{"status", "", fmt.Sprintf("Hosting: notes\nConnection ID: 0\nPhext Size: %d\nScrolls: 1", len(notes)), true},
		{"load", "", "Loaded notes", false},
		{"load", "p=none", "Loaded none", false},
		{"get", "p=none", "", true},
	} {
		a, err := w.read(test.op, test.query)
		w.check(err)
		tag := ""
		if test.tagged {
			tag = etag.Of(test.text)
		}
		if a.Text != test.text || a.ETag != tag {
			t.Errorf("%s %s: %q, tag %s", test.op, test.query, a.Text, a.ETag)
		}
		a.Release()
	}
	for _, query := range []string{"c=no.such.name", "p=none&c=a.name"} {
		_, err := w.read("select", query)
		w.wantError(err, apierror.NotFound)
	}
	w.wantUsed(0)
}

// TestAnAnswerWithoutMemory is refused, also if the client takes it compressed.
func TestAnAnswerWithoutMemory(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.version("notes.phext")
	if !w.Dirs.Answers.Take(w.Dirs.Answers.Limit()) {
		t.Fatal("somebody holds memory")
	}
	for _, op := range []string{"toc", "get", "json-export", "checksum", "delta"} {
		for _, gzip := range []bool{false, true} {
			if _, err := w.Read(t.Context(), w.dir, w.call(op, ""), gzip); err != datadir.ErrBusy {
				t.Errorf("%s, compressed %v: %v", op, gzip, err)
			}
		}
	}
}

// TestCompressors are few for one group, and count as memory: each takes more than most answers.
func TestCompressors(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.put("large.phext", strings.Repeat("a text", worthCompressing))
	for _, op := range []string{"get", "query"} { // kept, and made for one client alone
		read := func(ctx context.Context, gzip bool) error {
			a, err := w.Read(ctx, w.dir, w.call(op, "p=large&from=1.1.1/1.1.1/1.1.1&to=2.1.1/1.1.1/1.1.1"), gzip)
			if err == nil {
				if a.Release(); a.Gzip != gzip {
					t.Errorf("%s: compressed %v", op, a.Gzip)
				}
			}
			return err
		}
		w.check(read(t.Context(), false))
		left := w.Dirs.Answers.Limit() - 4*compressorMemory // of which a directory gets an eighth
		if !w.Dirs.Answers.Take(left) {
			t.Fatal("somebody holds memory")
		}
		if err := read(t.Context(), true); err != datadir.ErrBusy {
			t.Errorf("%s: compressed without memory: %v", op, err)
		}
		w.check(read(t.Context(), false))
		w.Dirs.Answers.Give(left)

		w.check(read(t.Context(), true))
	}
	first, err := w.dir.EnterCompression(t.Context(), "")
	w.check(err)
	second, err := w.dir.EnterCompression(t.Context(), "")
	w.check(err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.dir.EnterCompression(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("a third one: %v", err)
	}
	others, err := w.dir.EnterCompression(t.Context(), "others")
	w.check(err)
	if _, err := w.Read(ctx, w.dir, w.call("query", "p=large&from=1.1.1/1.1.1/1.1.1&to=2.1.1/1.1.1/1.1.1"), true); !errors.Is(err, context.Canceled) {
		t.Errorf("a compressed answer does not wait: %v", err)
	}
	first()
	second()
	others()
	w.wantUsed(0)
}

// TestStatusOfAFileThatCountsPastMax is what SQ 0.6.0 says of such files. Those that it
// counts one by one take memory, which is charged.
func TestStatusOfAFileThatCountsPastMax(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.put("past.phext", "head\x17\x17\x17"+strings.Repeat("a\x17", 3000)+"end")
	w.put("back.phext", strings.Repeat("\x18", 1000)+strings.Repeat(strings.Repeat("a\x17", 50)+"\x18", 60))
	w.put("trail.phext", strings.Repeat("\x18", 1199)+"a\x18b\x18c\x17\x17")
	for query, want := range map[string]string{"p=past": "Phext Size: 2000\nScrolls: 997", "p=back": "Phext Size: 1097\nScrolls: 51", "p=trail": "Phext Size: 999\nScrolls: 2"} {
		a, err := w.read("status", query)
		w.check(err)
		if !strings.HasSuffix(a.Text, want) {
			t.Errorf("%s: %q", query, a.Text)
		}
		a.Release()
	}
	w.wantUsed(0)
	const one = 64 // bytes, for a scroll that is counted; it takes more
	if !w.Dirs.Answers.Take(w.Dirs.Answers.Limit() - one*3000) {
		t.Fatal("somebody holds memory")
	}
	if _, err := w.read("status", "p=back"); err != datadir.ErrBusy {
		t.Errorf("without memory: %v", err)
	}
	_, err := w.read("status", "")
	w.check(err)
}

// TestAQueryEndsWithItsClient, also while it looks up the coordinates of a set.
func TestAQueryEndsWithItsClient(t *testing.T) {
	q := &rewrite.QuerySpec{Limit: 1, Set: make([]rewrite.Place, 10*fairqueue.Piece/perLookUp)}
	all := &first[found]{most: len(q.Set), compare: compareFound, work: &work{pause: func() error { return context.Canceled }}}
	view := datadir.View{Phext: cache.Missing(), Names: cache.Missing()}
	if _, err := find(view, q, phext.Coordinate{}, phext.Coordinate{}, all); !errors.Is(err, context.Canceled) || all.all.len > len(q.Set)/5 {
		t.Errorf("%v, after %d of %d", err, all.all.len, len(q.Set))
	}
}

// TestQuery has names of both kinds. Those of numbers stand where the numbers say.
func TestQuery(t *testing.T) {
	w := newWorld(t, 1<<20)
	at := func(c phext.Coordinate, last uint32) phext.Coordinate { c[8] = last; return c }
	named := phext.Coordinate{999, 1, 1, 1, 1, 1, 1, 1, 1}
	w.put("notes.phext", phext.Of([]phext.Scroll{{At: phext.Origin(), Text: "one\r\t\x02"}, {At: at(phext.Origin(), 3), Text: "three"},
		{At: at(named, 1), Text: "b"}, {At: at(named, 2), Text: "of 2026"}, {At: at(named, 3), Text: "zero"}}).Render())
	w.put("notes.names.phext", phext.Of([]phext.Scroll{{At: at(named, 1), Text: `b."name"`}, {At: at(named, 2), Text: "2026.1.1/1.1.1/1.1.1"},
		{At: at(named, 3), Text: "1.1.1/1.1.1/1.1.0"}}).Render())
	const first, third = "1.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.3"
	entry := func(c, text string) string { return `{"coordinate":"` + c + `","scroll":"` + text + `"}` }
	zero, one, three := entry("1.1.1/1.1.1/1.1.0", "zero"), entry(first, `one\r\t\u0002`), entry(third, "three")
	b, date := entry(`b.\"name\"`, "b"), entry("2026.1.1/1.1.1/1.1.1", "of 2026")
	for query, want := range map[string]string{
		"from=" + first + "&to=9.9.9/9.9.9/9.9.9":                         one + "," + three,
		"from=0.0.0/0.0.0/0.0.0&to=9999.1.1/1.1.1/1.1.1":                  zero + "," + one + "," + three + "," + b + "," + date,
		"from=1.1.1/1.1.1/1.1.0&to=" + first:                              zero + "," + one,
		"from=2025.1.1/1.1.1/1.1.1&to=2026.12.31/1.1.1/1.1.1":             date,
		"from=2.1.1/1.1.1/1.1.1&to=b.%22name%22":                          b,
		"from=" + first + "&to=9.9.9/9.9.9/9.9.9&limit=1":                 one,
		"from=" + first + "&to=9.9.9/9.9.9/9.9.9&limit=0":                 "",
		"set=c.name," + third + ",b.%22name%22,will." + first + ",c.name": entry("will."+first, `one\r\t\u0002`) + "," + three + "," + b + "," + entry("c.name", ""),
		"set=2026.01.1/1.1.1/1.1.1,2025.1.1/1.1.1/1.1.1," + first:         one + "," + entry("2025.1.1/1.1.1/1.1.1", "") + "," + entry("2026.01.1/1.1.1/1.1.1", "of 2026"),
		"set=b.%22name%22,999.1.1/1.1.1/1.1.1":                            entry("999.1.1/1.1.1/1.1.1", "b"),
		"set=" + third + "&from=" + first + "&to=" + third + "&limit=2":   one + "," + three,
		"p=none&set=" + first + "&from=" + first + "&to=" + first:         entry(first, ""),
	} {
		a, err := w.read("query", query)
		if err != nil || a.Text != "["+want+"]" || a.ETag != etag.Of(a.Text) {
			t.Errorf("%s: %v\n%s, want\n[%s]", query, err, a.Text, want)
		}
		if err == nil {
			a.Release()
		}
	}
	_, err := w.read("query", "from=no.name&to="+first)
	w.wantError(err, apierror.NotFound)
	_, err = w.read("query", "from=b.%22name%22&to="+first)
	w.wantError(err, apierror.BadRequest)
	if want := `Bad Request: 'from' (b."name") is after 'to' (` + first + ")"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	w.wantUsed(0)
}

// TestDelta reports what the client's manifest does not have, by number and by name.
func TestDelta(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.put("notes.names.phext", "\x17\x17a.name")
	ask := func(manifest string) string {
		a, err := w.Read(t.Context(), w.dir, w.callWith("POST", "delta", "", manifest), false)
		w.check(err)
		defer a.Release()
		return a.Text
	}
	sum := phext.Checksum("the scroll")
	all := ask("")
	if !strings.Contains(all, "the scroll") {
		t.Fatalf("without a manifest: %q", all)
	}
	for _, manifest := range []string{"1.1.1/1.1.1/1.1.3: " + sum, "a.name: " + sum} {
		if got := ask(manifest); strings.Contains(got, "the scroll") {
			t.Errorf("with %q: %q", manifest, got)
		}
	}
	for _, manifest := range []string{"1.1.1/1.1.1/1.1.3: x", "a.name: x", "no.such.name: " + sum} {
		if got := ask(manifest); got != all {
			t.Errorf("with %q: %q", manifest, got)
		}
	}
}

func TestWhere(t *testing.T) {
	w := newWorld(t, 1<<20)
	call := w.callWith("POST", "where", "limit=3&algo=checksum", "some text")
	if got, want := Where(call), phext.Where("some text", 3, true, nil); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestFilesOfAFailedDirectory are not read.
func TestFilesOfAFailedDirectory(t *testing.T) {
	w := newWorld(t, 1<<20)
	stuck := errors.New("the child does not end")
	w.Dirs.StopChild = func(context.Context, string, string) error { return stuck }
	_, err := w.read("toc", "")
	w.wantError(err, apierror.Unavailable)
}

// manyScrolls makes a toc of 200 KB.
func manyScrolls() string {
	return strings.Repeat(strings.Repeat("a line of text\x17", 500)+"\x18", 10)
}

func TestKeptAnswersAreInTheReadMemory(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.put("notes.phext", manyScrolls())
	w.version("notes.phext")
	before := w.Dirs.Cache.Stats().Bytes
	a, err := w.read("toc", "")
	w.check(err)
	a.Release()
	toc := int64(len(a.Text))
	if grown := w.Dirs.Cache.Stats().Bytes - before; toc < 100000 || grown < toc || grown > toc+1024 {
		t.Errorf("a toc of %d bytes counts for %d", toc, grown)
	}
	for i := range 20 {
		other := fmt.Sprintf("other%d.phext", i)
		w.put(other, strings.Repeat("x", 100<<10))
		w.version(other)
	}
	s := w.Dirs.Cache.Stats()
	if s.Bytes > w.Dirs.ReadMemory || s.Evictions == 0 {
		t.Errorf("%+v", s)
	}
	if w.version("notes.phext"); w.Dirs.Cache.Stats().Hits != s.Hits {
		t.Error("the version that was read least recently has stayed")
	}
}

// TestKeptAnswersCostNoMemory once they are made.
func TestKeptAnswersCostNoMemory(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.put("notes.phext", manyScrolls())
	for _, op := range []string{"toc", "get", "checksum"} {
		const times = 20
		ask := func() {
			a, err := w.read(op, "")
			w.check(err)
			a.Release()
		}
		ask()
		took := allocated(func() {
			for range times {
				ask()
			}
		})
		if most := uint64(w.version("notes.phext").Size()) / 10; took/times > most {
			t.Errorf("%s takes %d bytes, of a phext of %d", op, took/times, 10*most)
		}
	}
	w.wantUsed(0)
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestAnAnswerThatIsSentToManyCountsOnce, until the last has it.
func TestAnAnswerThatIsSentToManyCountsOnce(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.put("notes.phext", manyScrolls())
	once, err := w.read("toc", "")
	w.check(err)
	size := int64(len(once.Text))
	w.wantUsed(size)
	twice, err := w.read("toc", "")
	w.check(err)
	w.wantUsed(size)
	other, err := w.read("checksum", "")
	w.check(err)
	w.wantUsed(size + int64(len(other.Text)))
	other.Release()
	once.Release()
	w.wantUsed(size)
	twice.Release()
	w.wantUsed(0)
}

func TestNoRoomForAnAnswer(t *testing.T) {
	w := newWorld(t, 1<<20)
	all := w.Dirs.Answers
	w.version("notes.phext") // is in memory now
	full := func(name, op string) {
		t.Helper()
		if !all.Take(all.Limit()) {
			t.Fatal("somebody holds memory")
		}
		if a, err := w.read(op, ""); err != datadir.ErrBusy || a.ETag != "" || a.Text != "" {
			t.Errorf("%s: %v, %+v", name, err, a)
		}
		all.Give(all.Limit())
		w.wantUsed(0)
	}
	full("to be made", "toc")
	full("to be made, and not kept", "delta")
	w.want("toc", "* 1.1.1/1.1.1/1.1.3: the scroll\n")
	full("to be sent", "toc")
	w.want("toc", "* 1.1.1/1.1.1/1.1.3: the scroll\n")
}

func TestAnswersAreNoLargerThanForeseen(t *testing.T) {
	far := strings.Repeat("\x01", 998) + strings.Repeat("\x1f", 998) + strings.Repeat("\x17", 998)
	text := rapid.StringOf(rapid.RuneFrom([]rune("ab\"\n\t\x17\x18\x01🔱")))
	rapid.Check(t, func(t *rapid.T) {
		lead := rapid.SampledFrom([]string{"", far}).Draw(t, "lead")
		v := datadir.View{
			Phext: cache.NewVersion(lead+text.Draw(t, "text"), fsutil.FileID{}),
			Names: cache.NewVersion(lead+text.Draw(t, "names"), fsutil.FileID{}),
		}
		for _, op := range []rewrite.Op{rewrite.Toc, rewrite.JSONExport, rewrite.Get} {
			call := &rewrite.Call{Op: op}
			if got, most := int64(len(render(v, call))), answerSize(v, call); got > most {
				t.Fatalf("%s of %q with names %q takes %d bytes, %d were foreseen", op, v.Phext.Text(), v.Names.Text(), got, most)
			}
		}
	})
}

// TestAnswersThatAreNotTakenAreCounted holds answers that are parts of ever new
// versions of a phext, as clients that do not read do.
func TestAnswersThatAreNotTakenAreCounted(t *testing.T) {
	w := newWorld(t, 1<<20)
	const size = 2 * copied
	rest := w.Dirs.Answers.Limit()/8 - 3*size // of the part of a directory
	release, ok := w.dir.Send(rewrite.Recipient{}, t, rest)
	if !ok {
		t.Fatal("the part is smaller")
	}
	defer release()
	var held []Answer
	for n := range 5 {
		text := strings.Repeat(string(rune('a'+n)), size)
		w.put("notes.phext", text)
		for range 3 { // of one version
			a, err := w.read("select", "c=1.1.1/1.1.1/1.1.1")
			if n >= 3 {
				if !errors.Is(err, datadir.ErrBusy) {
					t.Errorf("version %d: %v", n, err)
				}
				continue
			}
			w.check(err)
			if a.Text != text {
				t.Errorf("version %d: %d bytes", n, len(a.Text))
			}
			held = append(held, a)
		}
	}
	w.wantUsed(rest + 3*size)
	for _, a := range held {
		a.Release()
	}
	held = nil
	for n := range 20 { // a text of this length does not keep the phext beside it in memory
		w.put("notes.phext", strings.Repeat(string(rune('a'+n)), copied)+"\x17"+strings.Repeat("y", 2*size))
		a, err := w.read("select", "c=1.1.1/1.1.1/1.1.1")
		if n >= 6 {
			if !errors.Is(err, datadir.ErrBusy) {
				t.Errorf("copy %d: %v", n, err)
			}
			continue
		}
		w.check(err)
		held = append(held, a)
		w.wantUsed(rest + int64(n+1)*copied)
	}
	w.put("small.phext", "small")
	a, err := w.read("select", "p=small&c=1.1.1/1.1.1/1.1.1")
	w.check(err)
	a.Release()
	for _, a := range held {
		a.Release()
	}
	w.wantUsed(rest)
}

// TestAPhextCountsWhileItIsUsed, although it is in the cache, from which it may go
// meanwhile: whatever is asked of it finds no room beside what others have taken.
func TestAPhextCountsWhileItIsUsed(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.put("notes.phext", manyScrolls())
	page := w.version("notes.phext")
	w.Dirs.Cache.Taken = nil // it stays there
	for op, query := range map[string]string{"select": "c=1.1.1/1.1.1/1.1.1", "status": "", "checksum": "", "delta": "", "list": "", "search": "q=no-such-word", "toc": ""} {
		taken := w.Dirs.Answers.Limit() - page.Memory() + 1
		if !w.Dirs.Answers.Take(taken) {
			t.Fatal("somebody holds memory")
		}
		if _, err := w.read(op, query); err != datadir.ErrBusy {
			t.Errorf("%s: %v", op, err)
		}
		w.Dirs.Answers.Give(taken)
		a, err := w.read(op, query)
		w.check(err)
		a.Release()
		if used := w.Dirs.Answers.Above(0); used != 0 {
			t.Errorf("%s: %d bytes are not given back", op, used)
		}
	}
}

// TestADeltaCountsWhatItMakes: of a manifest with scrolls that the phext does not have, the
// answer is far larger than both.
func TestADeltaCountsWhatItMakes(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.put("notes.phext", "text")
	var manifest strings.Builder
	for i := range 500 {
		fmt.Fprintf(&manifest, "%d.999.999/999.999.999/999.999.999: 0\n", 1+i)
	}
	a, err := w.read("delta", "s="+url.QueryEscape(manifest.String()))
	w.check(err)
	a.Release()
	taken := w.Dirs.Answers.Limit() - 1<<20
	if len(a.Text) < 2<<20 || !w.Dirs.Answers.Take(taken) {
		t.Fatalf("%d bytes", len(a.Text))
	}
	if _, err := w.read("delta", "s="+url.QueryEscape(manifest.String())); err != datadir.ErrBusy {
		t.Errorf("%v", err)
	}
	w.Dirs.Answers.Give(taken)
}

// TestNoTurnIsHeldWhileMemoryIsWaitedFor by answers that are made in one.
func TestNoTurnIsHeldWhileMemoryIsWaitedFor(t *testing.T) {
	w := newWorld(t, 16<<20)
	w.put("notes.phext", strings.Repeat(strings.Repeat("x\x17", 500)+"\x18", 60))
	queue, err := fairqueue.New(1)
	w.check(err)
	t.Cleanup(func() { w.check(queue.Close()) })
	waits := 0
	w.Dirs.Answers.OnShortage(func(collect func()) bool {
		if collect == nil {
			return false
		}
		waits++
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		other := queue.Turn("other")
		defer other.Give()
		w.check(other.Take(ctx))
		return false
	})
	v := w.version("notes.phext") // in memory
	release := w.leaveMemory(v.Memory() + memlimit.Little)
	defer release()
	for op, query := range map[string]string{"query": "from=" + origin + "&to=999.1.1/1.1.1/1.1.1", "delta": "", "toc": "", "json-export": ""} {
		before, turn := waits, queue.Turn("will")
		_, err := w.Read(fairqueue.WithTurn(t.Context(), turn), w.dir, w.call(op, query), false)
		w.wantError(err, apierror.Unavailable)
		if turn.Give(); waits == before {
			t.Errorf("%s waits for no memory", op)
		}
	}
}
