package proxy

import (
	"errors"
	"path/filepath"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
)

// parsing is how much memory a file takes while it is read, in its own sizes:
// the text and what is made of it.
const parsing = 2

// admitFile makes room for a file that is read into memory.
func (g *Gateway) admitFile(bytes int64) (release func(), err error) {
	room := min(parsing*bytes, g.answers.limit) // the largest must still find room when nobody else does
	if !g.answers.take(room) {
		return nil, errBusy
	}
	return func() { g.answers.give(room) }, nil
}

// page is a phext's file as everybody may see it now.
func (g *Gateway) page(path string) (*cache.Version, error) {
	p, err := g.pages.Read(path)
	for _, unfit := range []error{cache.ErrNotText, cache.ErrTooLarge, fsutil.ErrNotRegular} {
		if errors.Is(err, unfit) {
			return nil, damaged(unfit.Error())
		}
	}
	return p, err
}

// view is a phext and the names of its coordinates, at one moment.
type view struct {
	page, names *cache.Version
}

// looks is how often a view is tried for whose names do not change meanwhile.
const looks = 100

// viewFor reads what a reading call has to know. Where it neither gives nor
// shows a name, that is the phext alone.
func (g *Gateway) viewFor(d *dir, call *rewrite.Call) (v view, err error) {
	if call.Names() {
		return g.view(d, call)
	}
	v.names = g.nothing
	v.page, err = g.page(call.FilePath(d.path))
	return v, err
}

// view reads a phext and its names. A name must never be looked up in one
// state and its scroll in another: the coordinate may have become another's.
func (g *Gateway) view(d *dir, call *rewrite.Call) (v view, err error) {
	path, namesPath := call.FilePath(d.path), filepath.Join(d.path, call.NamesFileName())
	if v.names, err = g.page(namesPath); err != nil {
		return v, err
	}
	for range looks {
		if v.page, err = g.page(path); err != nil {
			return v, err
		}
		again, err := g.page(namesPath)
		if err != nil {
			return v, err
		}
		if again == v.names || again.ID == v.names.ID {
			return v, nil
		}
		v.names = again
	}
	return v, errBusy
}

// resolve finds the coordinates that a call gives by name.
func (v view) resolve(call *rewrite.Call) error {
	if call.Name != "" {
		at, ok := v.names.Find(call.Name)
		if !ok {
			return errNoName(call.Name)
		}
		if _, ok := v.page.Phext.Select(at); !ok {
			return errNoName(call.Name)
		}
		call.Resolve(at)
	}
	v.resolveManifest(call)
	return nil
}

// resolveManifest leaves a name that stands for nothing as it is: there is no
// coordinate at which it could be reported missing.
func (v view) resolveManifest(call *rewrite.Call) {
	for i := range call.Manifest {
		line := &call.Manifest[i]
		if line.Name == "" {
			continue
		}
		if at, ok := v.names.Find(line.Name); ok {
			line.At, line.Name = at, ""
		}
	}
}
