package proxy

import (
	"net/http"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
)

// read answers a call that changes nothing, from memory: it never makes a
// file, never wakes a child, and waits for no write.
func (g *Gateway) read(w http.ResponseWriter, r *http.Request, d *dir, call *rewrite.Call) error {
	if err := g.settled(r.Context(), d); err != nil {
		return err
	}
	if g.config.ReadMemory == 0 && !renderedHere(call) {
		return g.readForwarded(w, r, d, call)
	}
	v, err := g.settledView(r, d, call)
	if err != nil {
		return err
	}
	if err := v.resolve(call); err != nil {
		return err
	}
	if _, kept := keptKinds[call.Op]; kept {
		return g.readKept(w, r, d, v, call)
	}
	room := min(sizeOfAnswer(v, call), g.answers.limit)
	if !g.answers.take(room) {
		return errBusy
	}
	defer g.answers.give(room)
	text, tag := rendered(v, call), ""
	if call.Op != rewrite.Load {
		tag = tagOf(text)
	}
	g.writeTagged(w, r, text, tag)
	return nil
}

// settledView is a view of files that were in order when it was taken: a write
// that came to a bad end meanwhile leaves files that nobody must see.
func (g *Gateway) settledView(r *http.Request, d *dir, call *rewrite.Call) (view, error) {
	for range looks {
		v, err := g.viewFor(d, call)
		if d.settled.Load() {
			return v, err
		}
		if err := g.settled(r.Context(), d); err != nil {
			return v, err
		}
	}
	return view{}, errUnsettled
}

// readForwarded has SQ answer, where reads are not to be held in memory. A
// phext without a file is answered from here: SQ would make an empty file of it.
func (g *Gateway) readForwarded(w http.ResponseWriter, r *http.Request, d *dir, call *rewrite.Call) error {
	done, err := g.turn(r, d, d.read)
	if err != nil {
		return err
	}
	state, err := g.files.check(call.FilePath(d.path))
	switch {
	case err != nil:
		done()
		return err
	case state == fileMissing:
		done()
		nothing := view{page: g.nothing, names: g.nothing}
		g.writeText(w, rendered(nothing, call))
		return nil
	}
	p := &passage{calls: []*rewrite.Call{call}, dir: d, reload: state == fileNew, finish: func() error { done(); return nil }, failed: done}
	defer p.held.release()
	if err := g.forward(r, p); err != nil {
		return err
	}
	g.writeBytes(w, call.Answer(p.answers[0]))
	return nil
}

// renderedHere are the reads that SQ gets wrong: toc breaks 0.5.3 for good on
// some texts, json-export leaves a file behind and is not JSON (LEGACY.md),
// delta puts scrolls at wrong coordinates while SQ has an empty one in memory,
// and of names SQ knows nothing.
func renderedHere(call *rewrite.Call) bool {
	return call.Op == rewrite.Toc || call.Op == rewrite.JSONExport || call.Op == rewrite.Delta || call.Name != ""
}

// sizeOfAnswer bounds the memory that an answer takes while it is made, in
// bytes. In JSON a byte may take six.
func sizeOfAnswer(v view, call *rewrite.Call) int64 {
	switch call.Op {
	case rewrite.Get, rewrite.Delta, rewrite.ChecksumOf:
		return v.page.Size()
	case rewrite.Toc:
		return v.shown() + v.page.Size() + v.names.Size()
	case rewrite.JSONExport:
		return v.shown() + 6*(v.page.Size()+v.names.Size())
	}
	return 0
}

// perShown is what toc and json-export write for a scroll beside its text and
// its name, in bytes, if all numbers of its coordinate are 999.
const perShown = 72

// shown is perShown for all scrolls; of none, an empty one is shown.
func (v view) shown() int64 { return perShown * int64(1+v.page.Phext.Len()) }

// rendered answers call from its phext, as legacy SQ would.
func rendered(v view, call *rewrite.Call) string {
	p := v.page.Phext
	switch call.Op {
	case rewrite.Select:
		scroll, _ := p.Select(call.At)
		return scroll
	case rewrite.Toc:
		return p.TextmapBy(v.names.Phext)
	case rewrite.Get:
		return v.page.Text()
	case rewrite.Delta:
		return p.Delta(manifest(call))
	case rewrite.ChecksumOf:
		return p.Checksum()
	case rewrite.Status:
		return string(call.StatusAnswer(p.RenderedSize(), v.page.Scrolls()))
	case rewrite.Load:
		return string(call.LoadAnswer())
	case rewrite.JSONExport:
		return p.JSONBy(v.names.Phext)
	}
	return ""
}

func manifest(call *rewrite.Call) map[phext.Coordinate]string {
	m := make(map[phext.Coordinate]string, len(call.Manifest))
	for _, line := range call.Manifest {
		if line.Name == "" {
			m[line.At] = line.Hash
		}
	}
	return m
}

func whereAnswer(call *rewrite.Call) string {
	return phext.Where(string(call.Scroll), call.Limit, call.Checksum)
}
