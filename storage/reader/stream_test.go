package reader

import (
	"bytes"
	"context"
	"runtime/debug"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/turnstest"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
)

// TestAStreamedAnswerIsTheSame as one that is made as a whole, of a phext that the cache
// does not keep, and is counted until its phext is let go of.
func TestAStreamedAnswerIsTheSame(t *testing.T) {
	text := manyScrolls() + strings.Repeat("x", 3*piece) + "\x17\"quoted\"\nand more\x17" + strings.Repeat("y", fairqueue.Piece+1)
	whole, streamed := newWorld(t, 64<<20), newWorld(t, 1<<10)
	for _, w := range []*world{whole, streamed} {
		w.put("notes.phext", text)
	}
	for _, op := range []string{"toc", "get", "json-export", "delta", "query"} {
		query := map[string]string{"delta": "s=1.1.1/1.1.1/1.1.1:+0", "query": "from=1.1.1/1.1.1/1.1.1&to=999.1.1/1.1.1/1.1.1"}[op]
		want, err := whole.read(op, query)
		whole.check(err)
		got, err := streamed.read(op, query)
		streamed.check(err)
		if want.Stream != nil || got.Stream == nil {
			t.Fatalf("%s: streamed %v, %v", op, want.Stream != nil, got.Stream != nil)
		}
		var b bytes.Buffer
		got.Stream(&b)
		if b.String() != want.Text || got.Size != b.Len() || got.ETag != etag.Of(want.Text) {
			t.Errorf("%s: %d bytes of %d, %s, want %d", op, b.Len(), got.Size, got.ETag, len(want.Text))
		}
		want.Release()
		got.Release()
	}
	one, err := streamed.read("checksum", "")
	streamed.check(err)
	if other, err := whole.read("checksum", ""); err != nil || one.Text != other.Text {
		t.Errorf("%q, want %q, %v", one.Text, other.Text, err)
	}
}

// TestAPartCountsUntilItsAnswerIsSent, whoever collects garbage meanwhile: what a key may see of
// a phext is made for each request.
func TestAPartCountsUntilItsAnswerIsSent(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	prefix, err := rewrite.ParsePrefix("1.1.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, readMemory := range []int64{64 << 20, 1 << 10} { // in the cache, and as long as somebody has it
		w := newWorld(t, readMemory)
		w.put("notes.phext", manyScrolls())
		_, err := w.dir.View(w.call("toc", ""))
		w.check(err)
		before := w.Dirs.Answers.Above(0)
		for _, op := range []string{"toc", "get", "json-export", "checksum", "status", "select", "list", "search", "delta", "query"} {
			call := w.call(op, map[string]string{"select": "c=1.1.1/1.1.1/1.1.1", "search": "q=nowhere", "delta": "s=1.1.1/1.1.1/1.1.1:+0", "query": "from=1.1.1/1.1.1/1.1.1&to=999.1.1/1.1.1/1.1.1&limit=1"}[op])
			w.check((&rewrite.Scope{Access: rewrite.ReadAccess, Prefix: &prefix}).Authorize(call))
			a, err := w.Read(w.Context(), w.dir, call, false)
			w.check(err)
			if a.Stream != nil && w.Dirs.Answers.Above(0)-before < 5000*phext.ScrollSize {
				t.Errorf("%s: of what is being sent, %d bytes count", op, w.Dirs.Answers.Above(0)-before)
			}
			a.Release()
			w.wantUsed(before)
		}
	}
}

// failing fails after so many bytes.
type failing struct{ left int }

func (w *failing) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		return 0, bytes.ErrTooLarge
	}
	return len(b), nil
}

// TestAStreamEndsWithItsClient: no more is sent after an error.
func TestAStreamEndsWithItsClient(t *testing.T) {
	w := newWorld(t, 1<<10)
	w.put("notes.phext", strings.Repeat(strings.Repeat("x", 2*piece)+"\x17", 10))
	a, err := w.read("toc", "")
	w.check(err)
	defer a.Release()
	client := &failing{left: 3 * piece}
	a.Stream(client)
	if client.left < -2*piece {
		t.Errorf("%d bytes were sent after the error", -client.left)
	}
}

// TestOthersGoFirstWhileAnAnswerIsSummed: of short scrolls, most of the work is not their text.
func TestOthersGoFirstWhileAnAnswerIsSummed(t *testing.T) {
	const n = 20_000
	w := newWorld(t, 1<<10)
	w.put("notes.phext", strings.Repeat(strings.Repeat("x\x17", n/50)+"\x18", 50))
	call := w.call("toc", "")
	size := 0
	turns := turnstest.Count(t, func(ctx context.Context) {
		a, err := w.Read(ctx, w.dir, call, false)
		w.check(err)
		size = a.Size
		a.Release()
	})
	if want := (size + 4*n*perWrite) / fairqueue.Piece; size == 0 || turns < want {
		t.Errorf("%d turns for %d bytes, want %d", turns, size, want)
	}
}

// TestOthersGoFirstWhileAnAnswerIsCompressed, which is slow.
func TestOthersGoFirstWhileAnAnswerIsCompressed(t *testing.T) {
	w := newWorld(t, 16<<20)
	w.put("notes.phext", strings.Repeat("text ", fairqueue.Piece))
	call := w.call("get", "")
	turns := turnstest.Count(t, func(ctx context.Context) {
		a, err := w.Read(ctx, w.dir, call, true)
		w.check(err)
		a.Release()
	})
	if want := 5 * 8; turns < want {
		t.Errorf("%d turns, want %d", turns, want)
	}
}
