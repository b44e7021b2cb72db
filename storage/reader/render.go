package reader

import (
	"context"
	"unsafe"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// render answers a call from its phext, as legacy SQ would on the same file.
func render(v datadir.View, call *rewrite.Call) string {
	p, pace := v.Phext.Phext, call.Pace
	switch call.Op {
	case rewrite.Select:
		scroll, _ := p.Select(call.At)
		return scroll
	case rewrite.Toc:
		return p.TextmapBy(v.Names.Phext, pace)
	case rewrite.Get:
		return v.Phext.TextPaced(pace)
	case rewrite.ChecksumOf:
		return p.ChecksumPaced(pace)
	case rewrite.Status:
		return string(call.StatusAnswer(p.RenderedSize(), v.Phext.Scrolls(pace)))
	case rewrite.Load:
		return string(call.LoadAnswer())
	case rewrite.JSONExport:
		return p.JSONBy(v.Names.Phext, pace)
	}
	return ""
}

// delta answers delta. The list of scrolls is counted as memory while it is made. The
// answer, whose size is known then, may be far larger than phext and manifest together:
// between two coordinates lie up to 9000 delimiters.
func (r *Reader) delta(ctx context.Context, d *datadir.Dir, v datadir.View, call *rewrite.Call) (Answer, error) {
	release, err := admit(ctx, d, phext.ScrollSize*int64(v.Phext.Phext.Len()+len(call.Manifest)), v)
	if err != nil {
		return Answer{}, err
	}
	delta := v.Phext.Phext.DeltaPhext(manifest(call), call.Pace)
	if v.Phext.Counted() {
		return r.stream(ctx, v, release, func(out phext.TextWriter) { _, _ = delta.WriteTo(out) })
	}
	defer release()
	made, err := admit(ctx, d, int64(delta.RenderedSize()), v)
	if err != nil {
		return Answer{}, err
	}
	defer made()
	return r.once(ctx, d, call.Recipient, delta.RenderPaced(call.Pace), false)
}

func manifest(call *rewrite.Call) map[phext.Coordinate]string {
	m := map[phext.Coordinate]string{} // which grows in small steps, and would not be made in one
	for _, line := range call.Manifest {
		call.Pace.Did(perLookUp)
		if line.Name == "" {
			m[line.At] = line.Hash
		}
	}
	return m
}

// answerSize bounds the memory that an answer takes while it is made, in bytes.
// In JSON a byte may take six.
func answerSize(v datadir.View, call *rewrite.Call) int64 {
	switch call.Op {
	case rewrite.Get:
		return v.Phext.Size()
	case rewrite.Status:
		return v.Phext.ScrollsCost(call.Pace)
	case rewrite.Toc:
		return lines(v) + v.Phext.Size() + v.Names.Size()
	case rewrite.JSONExport:
		return lines(v) + 6*(v.Phext.Size()+v.Names.Size())
	}
	return 0
}

// What counts as so many bytes of work: an entry that is looked for, and two that are
// compared.
const (
	perLookUp  = 512
	perCompare = 128
)

// perLine is what toc and json-export write for a scroll beside its text and
// its name, in bytes, if all numbers of its coordinate are 999.
const perLine = 72

// lines is perLine for all scrolls. Of an empty phext, one is shown.
func lines(v datadir.View) int64 { return perLine * int64(1+v.Phext.Phext.Len()) }

// Where answers a call that searches the text which comes with it, and no phext.
func Where(call *rewrite.Call) string {
	text := unsafe.String(unsafe.SliceData(call.Scroll), len(call.Scroll)) // nobody changes it any more
	return phext.Where(text, call.Limit, call.Checksum, call.Pace)
}
