package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/tenants"
)

// mutate has SQ change a phext. A write that has begun is seen to its end,
// whatever becomes of the client: only then may the next one begin.
func (g *Gateway) mutate(w http.ResponseWriter, r *http.Request, d *dir, call *rewrite.Call) error {
	done, err := g.turn(r, d.write)
	if err != nil {
		return err
	}
	path := filepath.Join(d.path, call.FileName())
	state, size, err := g.files.check(path)
	if err == nil && state == fileMissing && call.Op == rewrite.Delete {
		done()
		g.writeText(w, []byte("Removed 0 bytes"))
		return nil
	}
	if err == nil {
		err = writable(path, state)
	}
	planned := intended(call, path, size)
	if err == nil {
		err = fitsSQ(planned)
	}
	var reserved *tenants.Reservation
	if err == nil {
		reserved, err = g.config.Ledger.Reserve(visitOf(r).tenant, planned)
	}
	if err != nil {
		done()
		return err
	}
	finish := func(answered bool) {
		part := reserved.Settle()
		if answered {
			g.files.wrote(path)
			w.Header().Set("X-SQ-Quota-Used", fmt.Sprintf("%.3f", min(1, part)))
		}
		done()
	}
	stored := func() error { return mustExist(path) }
	return g.forward(w, r, &passage{call: call, dir: d, reload: state != fileKnown, stored: stored, finish: finish})
}

// writable refuses a write that SQ could not make: it would answer 200 all the
// same. A directory that does not exist yet is made with the child.
func writable(path string, state fileState) error {
	if state == fileMissing {
		path = filepath.Dir(path)
	}
	err := unix.Access(path, unix.W_OK)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return damaged("cannot be written (" + err.Error() + ")")
}

// mustExist catches the write that SQ answered with 200 into a directory that
// is gone: it does not look at the result of its writes (LEGACY.md).
func mustExist(path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("SQ did not store a write: %w", err)
	}
	return nil
}

// mostDelimiters is how many delimiter bytes one scroll more can cost at the most.
const mostDelimiters = 9 * (phext.Max - phext.Min)

// intended is what a mutation is going to make of the phext's file.
func intended(call *rewrite.Call, path string, size int64) tenants.Write {
	return tenants.Write{
		File:    call.FileName(),
		Size:    size,
		Most:    max(0, size) + int64(len(call.Scroll)) + mostDelimiters,
		Exact:   func() (int64, error) { return sizeAfter(call, path) },
		Removes: call.Op == rewrite.Delete,
	}
}

// fitsSQ refuses a write after which SQ could not read the phext any more.
func fitsSQ(w tenants.Write) error {
	if w.Removes || w.Most <= largestPhext {
		return nil
	}
	size, err := w.Exact()
	if err == nil && size > largestPhext && size > w.Size {
		return tooLarge(largestPhext)
	}
	return err
}

// sizeAfter is the size of the file that SQ will write, to the byte.
func sizeAfter(call *rewrite.Call, path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return 0, err
	}
	p := phext.Parse(string(text))
	scroll := string(call.Scroll)
	if call.Op == rewrite.Insert {
		old, _ := p.Select(call.At)
		scroll = old + scroll
	}
	return int64(p.With(call.At, scroll).RenderedSize()), nil
}
