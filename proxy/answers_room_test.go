package proxy

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/internal/disk"
	"mirrorborn.us/sqgate/parsed"
	"mirrorborn.us/sqgate/rewrite"
)

func TestAnswersAreNoLargerThanForeseen(t *testing.T) {
	far := strings.Repeat("\x01", 998) + strings.Repeat("\x1f", 998) + strings.Repeat("\x17", 998)
	text := rapid.StringOf(rapid.RuneFrom([]rune("ab\"\n\t\x17\x18\x01🔱")))
	rapid.Check(t, func(t *rapid.T) {
		lead := rapid.SampledFrom([]string{"", far}).Draw(t, "lead")
		v := view{parsed.Of(lead+text.Draw(t, "text"), disk.FileID{}), parsed.Of(lead+text.Draw(t, "names"), disk.FileID{})}
		for _, op := range []rewrite.Op{rewrite.Toc, rewrite.JSONExport, rewrite.Get} {
			call := &rewrite.Call{Op: op}
			if got, most := int64(len(rendered(v, call))), sizeOfAnswer(v, call); got > most {
				t.Fatalf("%s of %q with names %q takes %d bytes, %d were foreseen", op, v.page.Text(), v.names.Text(), got, most)
			}
		}
	})
}
