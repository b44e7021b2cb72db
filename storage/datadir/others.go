package datadir

import (
	"log/slog"
	"slices"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// While sqgate runs, somebody may put a link or a mount into the place of a data directory
// that leads to another tenant's. A reload refuses such a tenants file, but no reload need
// come. And the disks of two tenants may have changed places, also before a start. So whoever
// opens a directory, or a file that was not read before, looks whether it is still the
// directory that it was, and whose it is if it is not.

// place is which directory a path leads to. Disks may get each other's device numbers, and the
// inode number of a file system's root is always the same: then the attribute tells them apart.
// A copy may get the inode number of a directory that was removed, and has its attribute: then
// the time of birth does.
type place struct {
	fsutil.Node
	birth     fsutil.Birth
	attribute string
}

// checkOwn is an error if at, which is Path or leads to what was opened there, leads to
// the directory of another one. What is not there is for others to tell. If it is another
// directory than before, it is recovered before the next write: the journal is to know it.
func (d *Dir) checkOwn(at string) error {
	last := d.place.Load() // before it is looked: what is made meanwhile has not vanished
	here, birth := fsutil.Place(at)
	switch {
	case here == (fsutil.Node{}):
		if last != nil {
			d.MarkUnrecovered()
			d.place.CompareAndSwap(last, nil)
		}
		return nil
	case last != nil && last.Node == here && last.birth == birth && journal.HasAttribute(at, last.attribute):
		if d.isOthers.Load() {
			d.isOthers.Store(false)
		}
		return nil
	}
	path := fsutil.Resolve(d.Path)
	if other := d.dirs.holder(d, at, path, here); other != "" {
		if !d.isOthers.Swap(true) {
			d.dirs.Logger.Error("the path of a data directory leads to another data directory; nothing of it is served until that is put right. If tenants are to share it, restart sqgate. If it is right as it is, remove its attributes user.sqgate.journal and user.sqgate.tenant (setfattr -x)",
				slog.String(logkey.DataDir, d.Path), slog.String("leads_to", other))
		}
		return errOthers
	}
	if path != d.Path { // a link is in its place: with the next reload, the tenant has another directory
		return ErrTenantChanged
	}
	if last != nil && (last.Node != here || !d.hasJournalsID(at)) { // first: whoever sees the place is not to write yet
		d.MarkUnrecovered()
	}
	d.lastHere.Store(nil)
	d.place.Store(&place{here, birth, journal.Attribute(at)})
	d.isOthers.Store(false)
	return nil
}

// hasJournalsID says whether the directory that at leads to was written last with the journal
// of this one.
func (d *Dir) hasJournalsID(at string) bool {
	j, err := d.dirs.JournalOf(d)
	return err == nil && j.HasWritten(at)
}

// holder is the path of another data directory to which that of d leads, or "". path is that of d
// without links.
func (ds *Dirs) holder(d *Dir, at, path string, here fsutil.Node) string {
	known := ds.Tenants()
	if known == nil {
		return ""
	}
	owners := d.ownersAt(known)
	if other := ds.displaced(at, d.Path, owners, known); other != "" {
		return other
	}
	if other := ds.taken(d, at, owners, known); other != "" {
		return other
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if path != d.Path && len(known.At(path)) > 0 {
		return path
	}
	for _, other := range ds.byNode[here] {
		if other != d.Path && fsutil.NodeOf(other) == here && len(known.At(other)) > 0 {
			return other
		}
	}
	ds.byNode[here] = []string{d.Path}
	return ""
}

// taken is another tenant's path at which the directory of d is, while something that says nothing is in its
// place; "" = there is none.
func (ds *Dirs) taken(d *Dir, at string, owners journal.Owners, known *tenants.Snapshot) string {
	if ds.Journal == nil {
		return ""
	}
	if j, err := ds.JournalOf(d); err != nil || !j.Misses(at) || slices.Contains(owners.Tenants, journal.TenantAt(at)) {
		return ""
	}
	for _, t := range known.All() {
		if t.DataDir != d.Path && slices.Contains(owners.Tenants, journal.TenantAt(t.DataDir)) {
			return t.DataDir
		}
	}
	return ""
}

// displaced is the path to which the directory at another one belongs, or "": that of TenantOf, or
// of the tenant whose journal has written it last. Whoever has it no more does not count, unless it was purged:
// its disk was away then.
func (ds *Dirs) displaced(at, path string, owners journal.Owners, known *tenants.Snapshot) string {
	if slices.Contains(owners.Tenants, journal.TenantAt(at)) {
		return ""
	}
	if t := TenantOf(at, known); t != nil {
		return t.DataDir
	}
	if ds.Journal == nil {
		return ""
	}
	if ds.TakeOver == nil && ds.isOfPurged(at) { // from a bucket, it would be emptied
		return at + " of a purged tenant"
	}
	other := ds.Journal.Displaced(at, path, owners)
	if other == "" || len(known.At(other)) == 0 {
		return ""
	}
	return other
}

// isOfPurged says whether there are phexts in a directory that says to be that of a purged tenant.
func (ds *Dirs) isOfPurged(at string) bool {
	of := journal.TenantAt(at)
	return of != "" && slices.Contains(ds.purged(), hashOf(of)) && hasPhexts(at)
}

// TenantOf is the tenant of whom the directory at a path says to be, or nil. Whoever is archived or
// has left it does not count.
func TenantOf(at string, known *tenants.Snapshot) *tenants.Tenant {
	t, ok := known.ByUniqueID(journal.TenantAt(at))
	if !ok || t.Archived || hasOwnElsewhere(t, at) {
		return nil
	}
	return t
}

// hasOwnElsewhere says whether a tenant has its directory at its path, and what at leads to is one that it
// has left. A copy does not say whose it is.
func hasOwnElsewhere(t *tenants.Tenant, at string) bool {
	if fsutil.NodeOf(t.DataDir) == fsutil.NodeOf(at) {
		return false
	}
	if of := journal.TenantAt(t.DataDir); of != "" {
		return of == t.UniqueID()
	}
	return hasPhexts(t.DataDir)
}

// NotePlaces takes down where the data directories of tenants are now, so that one that is
// mounted in the place of another is known for what it is before anybody has used it. Where
// several lead to one at once, nobody can say whose it is.
func (ds *Dirs) NotePlaces(of []*tenants.Tenant) {
	leading, known := map[fsutil.Node][]string{}, ds.Tenants()
	for _, t := range of {
		path := t.DataDir
		here := fsutil.NodeOf(path)
		if here == (fsutil.Node{}) || slices.Contains(leading[here], path) || ds.displaced(path, path, ownersOf(path, known), known) != "" {
			continue
		}
		leading[here] = append(leading[here], path)
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for here, paths := range leading {
		if len(ds.byNode[here]) == 0 {
			ds.byNode[here] = paths
		}
	}
}
