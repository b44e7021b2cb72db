package proxy

import (
	"net/http"
	"os"
	"path/filepath"
	"unicode/utf8"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
)

// read answers a call that changes nothing. A phext without a file is
// answered from here, because SQ would make an empty file of it.
func (g *Gateway) read(w http.ResponseWriter, r *http.Request, d *dir, call *rewrite.Call) error {
	done, err := g.turn(r, d.read)
	if err != nil {
		return err
	}
	path := filepath.Join(d.path, call.FileName())
	state, _, err := g.files.check(path)
	switch {
	case err != nil:
		done()
		return err
	case state == fileMissing:
		done()
		g.render(w, call, "")
		return nil
	case renderedHere(call.Op):
		return g.renderFile(w, call, path, done)
	}
	return g.forward(w, r, &passage{call: call, dir: d, reload: state == fileNew, finish: func(bool) { done() }})
}

// renderedHere are the reads that SQ gets wrong: toc breaks 0.5.3 for good on
// some texts, json-export leaves a file behind and is not JSON (LEGACY.md), and
// delta puts scrolls at wrong coordinates while SQ has an empty one in memory,
// as after an update with an empty text.
func renderedHere(op rewrite.Op) bool {
	return op == rewrite.Toc || op == rewrite.JSONExport || op == rewrite.Delta
}

// renderedSize is how much larger than a file all that is made of it can be:
// its text, the scrolls, and JSON, where a character may take six bytes.
const renderedSize = 8

func (g *Gateway) renderFile(w http.ResponseWriter, call *rewrite.Call, path string, done func()) error {
	held := &share{of: []*budget{g.answers}}
	defer held.release()
	text, err := g.readPhext(path, held)
	done()
	if err != nil {
		return err
	}
	g.render(w, call, text)
	return nil
}

func (g *Gateway) readPhext(path string, held *share) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	// What is made of the file counts too; the largest must still find room when nobody else does.
	if !held.grow(min(info.Size()*renderedSize, held.of[0].limit)) {
		return "", errBusy
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(text) {
		return "", damaged("is not UTF-8 text")
	}
	return string(text), nil
}

// render answers call from the text of its phext, as legacy SQ would.
func (g *Gateway) render(w http.ResponseWriter, call *rewrite.Call, text string) {
	if call.Op == rewrite.JSONExport {
		w.Header().Set("Content-Type", jsonType)
	}
	g.writeText(w, rendered(call, text))
}

func rendered(call *rewrite.Call, text string) []byte {
	p := phext.Parse(text)
	switch call.Op {
	case rewrite.Select:
		scroll, _ := p.Select(call.At)
		return []byte(scroll)
	case rewrite.Toc:
		return []byte(p.Textmap())
	case rewrite.Get:
		return []byte(text)
	case rewrite.Delta:
		return []byte(p.Delta(manifest(call)))
	case rewrite.ChecksumOf:
		return []byte(p.Checksum())
	case rewrite.Status:
		return call.StatusAnswer(p.RenderedSize(), max(p.Len(), 1))
	case rewrite.Load:
		return call.LoadAnswer()
	case rewrite.JSONExport:
		return []byte(p.JSON())
	}
	return nil
}

func manifest(call *rewrite.Call) map[phext.Coordinate]string {
	m := make(map[phext.Coordinate]string, len(call.Manifest))
	for _, line := range call.Manifest {
		m[line.At] = line.Hash
	}
	return m
}

func whereAnswer(call *rewrite.Call) []byte {
	return []byte(phext.Where(string(call.Scroll), call.Limit, call.Checksum))
}
