package datadir

import (
	"errors"
	"path/filepath"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// NoteMoved is called for tenants that have other data directories than before, or may have
// moved while sqgate was stopped. A power cut must not take back how a directory came to its path:
// the tenants file says already that it is there. And without its disk it must not be taken for one
// of a new tenant, also if nobody has asked for it yet. If a crash came before the move, Run repairs
// the phexts: a clean stop cannot be noted before, and what is edited after it would pass for damage.
func (ds *Dirs) NoteMoved(of []*tenants.Tenant) {
	synced, dirs := map[string]bool{}, map[string]string{}
	for _, t := range of {
		dirs[t.UniqueID()] = t.DataDir
		for _, path := range []string{t.DataDir, t.Configured} {
			if parent := filepath.Dir(path); !synced[parent] {
				synced[parent] = ds.syncDir(parent) == nil
			}
			if !synced[filepath.Dir(path)] { // sqgate may have no right to read it
				_ = ds.syncDir(path) // which is on the disk with its name then, if it is there
			}
		}
	}
	moved, err := ds.Journal.HaveMoved(dirs)
	if err != nil {
		return // whoever asks for a directory is told
	}
	for tenant, dir := range dirs {
		d := ds.Of(dir)
		m, err := d.readMark()
		hasNewID := err == nil && m != nil && m.file != d.markFiles()[0]
		if moved[tenant] || hasNewID {
			d.lookUnasked(moved[tenant])
		}
	}
	ds.wake()
}

// lookUnasked looks for the phexts in a directory for which nobody has asked since its tenants came to it, or got another
// id. If they have moved, Run recovers it; a new id may be taken back.
func (d *Dir) lookUnasked(moved bool) {
	if d.dirs.MarkDir == "" {
		return
	}
	d.forgetSeen()
	at, letGo, err := d.Hold()
	if err != nil {
		return // it is logged
	}
	defer letGo()
	if hasPhexts(at) {
		d.moved.Store(moved && d.dirs.TakeOver == nil) // with a bucket, only requests do that
		d.markOrWarn(at)
	}
}

// expect marks a tenant that has no mark, and of which a journal knows that it had phexts, if there are none here:
// the marks stayed behind when its journal was moved to another host. They are on a disk that is not mounted, or
// nobody has moved them. If somebody removes the mark, the tenant begins without them.
func (d *Dir) expect(owners journal.Owners) error {
	tenant := alone(owners)
	if d.dirs.MarkDir == "" || d.dirs.TakeOver != nil || tenant == "" {
		return nil // from a bucket, they come by themselves
	}
	d.expecting.Lock()
	defer d.expecting.Unlock()
	if d.expected == tenant {
		return nil
	}
	m, err := d.readMark()
	here, failed := phextsIn(d.Path)
	if err = errors.Join(err, fsutil.IgnoreMissing(failed)); err == nil && m == nil && len(here) == 0 {
		var before string
		if before, err = d.pathBefore(tenant); before != "" {
			d.lastHere.Store(nil)
			if err := d.replaceMarks(&mark{identity: toCome, path: before}); err != nil {
				return err
			}
		}
	}
	if err == nil {
		d.expected = tenant
	} else {
		d.dirs.Logger.Warn("whether a tenant had phexts in the data directory before cannot be told", logkey.DataDir, d.Path, logkey.Error, err)
	}
	return nil
}

// pathBefore is where a tenant had phexts before, in another directory, as far as a journal knows it; "" = nowhere.
func (d *Dir) pathBefore(tenant string) (path string, err error) {
	j, err := d.dirs.JournalOf(d)
	if err != nil {
		return "", err
	}
	if !j.IsNoted(journal.Owners{Tenants: []string{tenant}}) {
		path, _, err = d.phextsElsewhere(tenant)
		return path, err
	}
	if j.IsOfAnother(d.Path) {
		if names, err := j.PeekPhexts(); len(names) > 0 {
			return d.Path, err
		}
	}
	return "", nil
}

// phextsElsewhere are the names of the phexts that a tenant had in a directory at another path.
func (d *Dir) phextsElsewhere(tenant string) (path string, names []string, err error) {
	before, err := d.dirs.Journal.NotedElsewhere(tenant, d.Path)
	for _, path := range before {
		j, e := d.dirs.Journal.Of(path)
		if e == nil {
			names, e = j.PeekPhexts()
		}
		if len(names) > 0 {
			return path, names, nil
		}
		err = errors.Join(err, e)
	}
	return "", nil, err
}
