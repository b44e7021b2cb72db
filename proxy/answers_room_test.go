package proxy

import (
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
)

func TestAnAnswerThatIsSentToManyCountsOnce(t *testing.T) {
	all := newBudget(100)
	out := newOutgoing(all)
	a, b, huge := &cache.Rendered{Text: strings.Repeat("a", 60)}, &cache.Rendered{Text: strings.Repeat("b", 60)}, &cache.Rendered{Text: strings.Repeat("c", 600)}
	once, twice := out.begin(a), out.begin(a)
	if !once || !twice || all.used.Load() != 60 {
		t.Errorf("sent twice: %d bytes", all.used.Load())
	}
	if out.begin(b) || out.begin(huge) || all.used.Load() != 60 {
		t.Errorf("no room: %d bytes", all.used.Load())
	}
	out.end(a)
	if all.used.Load() != 60 {
		t.Errorf("sent once: %d bytes", all.used.Load())
	}
	out.end(a)
	if !out.begin(huge) || out.begin(b) {
		t.Error("the largest finds no room when nobody else wants any, or leaves some")
	}
	out.end(huge)
	if all.used.Load() != 0 || len(out.to) != 0 {
		t.Errorf("at the end: %d bytes, %d answers", all.used.Load(), len(out.to))
	}
}

func TestNoRoomForAnAnswer(t *testing.T) {
	r := newReader(t)
	r.g.answers.take(r.g.answers.limit)
	if w := r.ask("toc", ""); w.Code != http.StatusServiceUnavailable || w.Header().Get("ETag") != "" {
		t.Errorf("to be made: %d, %v", w.Code, w.Header())
	}
	r.g.answers.give(r.g.answers.limit)
	r.want("toc", "* 1.1.1/1.1.1/1.1.3: the scroll\n")
	r.g.answers.take(r.g.answers.limit)
	if w := r.ask("toc", ""); w.Code != http.StatusServiceUnavailable || w.Header().Get("ETag") != "" {
		t.Errorf("to be sent: %d, %v", w.Code, w.Header())
	}
}

func TestAnswersAreNoLargerThanForeseen(t *testing.T) {
	far := strings.Repeat("\x01", 998) + strings.Repeat("\x1f", 998) + strings.Repeat("\x17", 998)
	text := rapid.StringOf(rapid.RuneFrom([]rune("ab\"\n\t\x17\x18\x01🔱")))
	rapid.Check(t, func(t *rapid.T) {
		lead := rapid.SampledFrom([]string{"", far}).Draw(t, "lead")
		v := view{cache.NewVersion(lead+text.Draw(t, "text"), fsutil.FileID{}), cache.NewVersion(lead+text.Draw(t, "names"), fsutil.FileID{})}
		for _, op := range []rewrite.Op{rewrite.Toc, rewrite.JSONExport, rewrite.Get} {
			call := &rewrite.Call{Op: op}
			if got, most := int64(len(rendered(v, call))), sizeOfAnswer(v, call); got > most {
				t.Fatalf("%s of %q with names %q takes %d bytes, %d were foreseen", op, v.page.Text(), v.names.Text(), got, most)
			}
		}
	})
}
