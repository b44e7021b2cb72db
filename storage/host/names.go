package host

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/tenants"
)

// names are what directories are called in the bucket, found once for each state of the
// tenants file: a start with many tenants asks for all.
type names struct {
	mu      sync.Mutex
	tenants *tenants.Snapshot
	byDir   map[*datadir.Dir][]*tenants.Tenant
	dirs    map[string][]*datadir.Dir // by name
}

// nameOf is what a directory is called in the bucket: as its tenant or, if tenants share
// it, as its last part, behind "shared.", which no tenant's id begins with. of is that of
// replica.Directory.
func (ds *Directories) nameOf(d *datadir.Dir) (name, of string, err error) {
	n := ds.lockNames(d)
	defer n.mu.Unlock()
	if len(n.byDir[d]) == 0 {
		return "", "", datadir.ErrUnnamed
	}
	t := n.byDir[d][0]
	name = nameFor(t)
	if i := slices.IndexFunc(n.dirs[name], func(other *datadir.Dir) bool { return other != d }); i >= 0 && !ds.hasName(d, name) {
		err := fmt.Errorf("%s and %s %w", d.Path, n.dirs[name][i].Path, ErrSameName)
		ds.refused.note(d.Path, err)
		return "", "", err
	}
	return name, datadir.OwnerOf(t), nil
}

// ErrSameName is two directories that tenants share, and that have the same last part.
var ErrSameName = errors.New("would have the same name in the bucket: give one another last part")

// hasName says whether this machine has had a directory in the bucket by a name, and so no other:
// one that comes later must not keep it from being served.
func (ds *Directories) hasName(d *datadir.Dir, name string) bool {
	m, err := readMarkFile(filepath.Join(ds.MarkDir, name))
	return err == nil && m.Epoch > 0 && m.Path == d.Path
}

// CheckNames returns ErrSameName if that is so of two directories of the tenants now, and was not
// before.
func CheckNames(before, now *tenants.Snapshot) error {
	old := sameNames(before)
	for name, dirs := range sameNames(now) {
		if len(dirs) > 1 && len(old[name]) <= 1 {
			return fmt.Errorf("%s and %s %w", dirs[0], dirs[1], ErrSameName)
		}
	}
	return nil
}

// sameNames are the directories that tenants share, by name.
func sameNames(all *tenants.Snapshot) map[string][]string {
	dirs := map[string][]string{}
	for _, t := range all.All() {
		if dir, name := t.DataDir, nameFor(t); t.SharedDataDir && !slices.Contains(dirs[name], dir) {
			dirs[name] = append(dirs[name], dir)
		}
	}
	return dirs
}

// tenantsOf are those whose directory it is.
func (ds *Directories) tenantsOf(d *datadir.Dir) []*tenants.Tenant {
	n := ds.lockNames(d)
	defer n.mu.Unlock()
	return n.byDir[d]
}

func nameFor(t *tenants.Tenant) string {
	if t.SharedDataDir {
		return "shared." + filepath.Base(t.Configured)
	}
	return t.ID
}

// lockNames locks the names, which are those of now. d is any directory.
func (ds *Directories) lockNames(d *datadir.Dir) *names {
	n := &ds.names
	n.mu.Lock()
	now := ds.Tenants()
	if now == n.tenants {
		return n
	}
	n.tenants, n.byDir, n.dirs = now, map[*datadir.Dir][]*tenants.Tenant{}, map[string][]*datadir.Dir{}
	for _, t := range now.All() {
		one := d.Sibling(t.DataDir)
		n.byDir[one] = append(n.byDir[one], t)
		n.dirs[nameFor(t)] = append(n.dirs[nameFor(t)], one)
	}
	return n
}
