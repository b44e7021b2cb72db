package datadir

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"

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
		if moved[tenant] {
			ds.Of(dir).markUnasked()
		}
	}
	ds.wake()
}

// markUnasked marks a directory for which nobody has asked since its tenants came to it.
func (d *Dir) markUnasked() {
	if d.mark == "" {
		return
	}
	d.forgetSeen()
	at, letGo, err := d.Hold()
	if err != nil {
		return // it is logged
	}
	defer letGo()
	if hasPhexts(at) {
		d.moved.Store(d.dirs.TakeOver == nil) // with a bucket, only requests do that
		d.markOrWarn(at)
		return
	}
	d.expect(d.ownersAt(d.dirs.Tenants()))
}

// expect marks a directory without phexts whose tenant has had some: at another path, or in another
// directory at this one, as after a move to another host. They are on a disk that is not mounted, or
// nobody has moved them. If somebody removes the mark, the tenant begins without them.
func (d *Dir) expect(owners journal.Owners) {
	if d.mark == "" || d.dirs.TakeOver != nil || owners.Shared || len(owners.Tenants) != 1 {
		return // from a bucket, they come by themselves
	}
	d.expecting.Lock()
	defer d.expecting.Unlock()
	tenant := owners.Tenants[0]
	if d.expected == tenant {
		return
	}
	here, err := phextsIn(d.Path)
	had, failed := d.dirs.Journal.HadPhexts(tenant)
	err = errors.Join(failed, fsutil.IgnoreMissing(err))
	if err == nil && len(here) == 0 {
		err = d.expectOf(tenant, had)
	}
	if err == nil {
		d.expected = tenant
	} else {
		d.dirs.Logger.Warn("whether a tenant had phexts in the data directory before cannot be told", logkey.DataDir, d.Path, logkey.Error, err)
	}
}

// expectOf is expect, where nothing is here. A mark from when the tenant had the directory before says
// nothing of what it has left since.
func (d *Dir) expectOf(tenant string, had bool) error {
	j, err := d.dirs.JournalOf(d)
	if err != nil {
		return err
	}
	isNoted := j.IsNoted(journal.Owners{Tenants: []string{tenant}})
	if m, err := d.readMark(); d.toCome.Load() == nil && (err != nil || m != nil && (isNoted || m.identity == toCome)) {
		return err
	}
	phexts, err := d.phextsBefore(tenant)
	if len(phexts) > 0 || had {
		d.lastHere.Store(nil)
		m := &mark{identity: toCome, path: d.Path, tenants: []string{tenant}, beside: d.isOfOthers(tenant)}
		if d.toCome.Store(m); m.beside {
			return nil
		}
		if err := d.replaceMarks([]string{d.mark}, toCome); err != nil {
			return err
		}
		d.toCome.Store(nil)
		return nil
	}
	return err
}

// phextsBefore are the names of the phexts that a tenant had in another directory.
func (d *Dir) phextsBefore(tenant string) (names []string, err error) {
	j, err := d.dirs.JournalOf(d)
	if err != nil {
		return nil, err
	}
	before := []string{d.Path}
	if !j.IsNoted(journal.Owners{Tenants: []string{tenant}}) {
		before, err = d.dirs.Journal.NotedElsewhere(tenant, d.Path)
	} else if !j.IsOfAnother(d.Path) {
		return nil, nil
	}
	for _, path := range before {
		j, e := d.dirs.Journal.Of(path)
		if e == nil {
			names, e = j.PeekPhexts()
		}
		if len(names) == 0 && path != d.Path { // nobody has asked for them there
			here, failed := phextsIn(path)
			names, e = slices.Collect(maps.Keys(here)), errors.Join(e, fsutil.IgnoreMissing(failed))
		}
		if len(names) > 0 {
			return names, nil
		}
		err = errors.Join(err, e)
	}
	return nil, err
}
