package host

import (
	"fmt"
	"path/filepath"
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
	for _, other := range n.dirs[name] {
		if other != d {
			return "", "", fmt.Errorf("%s and %s would have the same name in the bucket: give one another last part", d.Path, other.Path)
		}
	}
	return name, datadir.OwnerOf(t), nil
}

// tenantsOf are those whose directory it is.
func (ds *Directories) tenantsOf(d *datadir.Dir) []*tenants.Tenant {
	n := ds.lockNames(d)
	defer n.mu.Unlock()
	return n.byDir[d]
}

func nameFor(t *tenants.Tenant) string {
	if t.SharedDataDir {
		return "shared." + filepath.Base(t.DataDir)
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
