package datadir

import (
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/storage/cache"
)

// Reserve makes an empty reservation in this directory's part of the memory for files
// and answers, and in the memory of all. Neighbours always have the rest.
func (d *Dir) Reserve() *memlimit.Reservation { return memlimit.Reserve(d.memory) }

// Reserve is Dir.Reserve of the directory at a path.
func (ds *Dirs) Reserve(dataDir string) *memlimit.Reservation { return ds.Of(dataDir).Reserve() }

// BodyBudgets are those of a request body, for memlimit.Reserve: beside those of Reserve, what
// the group has in this directory, see Enter, and the caller, by its id, in all.
func (d *Dir) BodyBudgets(group, caller string) [3]*memlimit.Budget {
	return [...]*memlimit.Budget{d.dirs.bodiesOf(caller), d.group(group).bodies, d.memory}
}

// Admit makes room for so many bytes in memory. The error is ErrBusy, or ErrTooLarge if
// there can never be room.
func (d *Dir) Admit(bytes int64) (release func(), err error) { return d.AdmitBeside(bytes, View{}) }

// AdmitBeside is Admit for what is made of a view, which is in memory meanwhile.
func (d *Dir) AdmitBeside(bytes int64, v View) (release func(), err error) {
	if bytes == 0 {
		return nothing, nil
	}
	held := d.Reserve()
	switch {
	case !held.Fits(bytes + v.memory()):
		return nil, ErrTooLarge
	case !held.Grow(bytes):
		return nil, ErrBusy
	}
	return held.Release, nil
}

// Use counts a view as memory while somebody uses it, once however many they are: the
// cache may let go of it meanwhile. A part of a version is kept by its users alone. The error is ErrBusy.
func (d *Dir) Use(v View) (release func(), err error) {
	release = nothing
	for _, version := range [...]*cache.Version{v.Phext, v.Names} {
		for ; version != nil; version = version.Whole() { // which a part keeps in memory
			if version.Whole() == nil && (version.Counted() || version.Memory() <= uncounted) {
				continue
			}
			done, err := d.use(version)
			if err != nil {
				release()
				return nil, err
			}
			before := release
			release = func() { before(); done() }
		}
	}
	return release, nil
}

func (d *Dir) use(version *cache.Version) (release func(), err error) {
	users := d.inUse
	if version.Whole() != nil {
		users = d.partsInUse
	}
	release, ok := users.Take(version, version.Memory())
	if !ok {
		return nil, ErrBusy
	}
	return release, nil
}

// uncounted is the memory of a version, in bytes, up to which it is not counted while it is
// used: there are no more of them than requests.
const uncounted = 64 << 10

// nothing is the release of nothing, made once.
var nothing = func() {}

// memory is what a view takes in memory, in bytes.
func (v View) memory() (bytes int64) {
	if v.Phext != nil {
		bytes = v.Phext.Memory()
	}
	if v.Names != nil {
		bytes += v.Names.Memory()
	}
	return bytes
}

// Charge counts what one piece of work takes in memory, within the directory's part. Texts
// alone may be larger than that, if nobody else in the directory holds any: of the past
// of a phext, twice its size may be needed. It belongs to one goroutine.
type Charge struct {
	held           *memlimit.Reservation
	most           int64 // as all that follow in bytes
	texts, scrolls int64
}

// NewCharge makes a charge of nothing.
func (d *Dir) NewCharge() *Charge { return &Charge{held: d.Reserve(), most: d.memory.Limit()} }

// Texts counts more bytes of texts. The error is ErrBusy.
func (c *Charge) Texts(bytes int64) error {
	c.texts += bytes
	return c.update()
}

// Scrolls counts more bytes of lists of scrolls. The error is ErrBusy, or ErrTooLarge if
// there can never be room for them.
func (c *Charge) Scrolls(bytes int64) error {
	if c.scrolls += bytes; c.scrolls > c.most/2 {
		return ErrTooLarge
	}
	return c.update()
}

// KeepText gives back all but the bytes of one text, which were counted.
func (c *Charge) KeepText(bytes int64) {
	c.texts, c.scrolls = bytes, 0
	_ = c.update() // less than before always has room
}

// Release gives everything back.
func (c *Charge) Release() { c.held.Release() }

func (c *Charge) update() error {
	if !c.held.Grow(min(c.texts+c.scrolls, c.most)) {
		return ErrBusy
	}
	return nil
}
