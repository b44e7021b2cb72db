package tenants

import (
	"path/filepath"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// FollowLinks is the fsutil.Links of the data directories of all tenants. A link
// is followed if its tenants have FollowLinks, and never
//
//   - into the directory of the tenants file at config: files beside it may be
//     earlier versions of it, with keys;
//   - to or into one of the private paths;
//   - into the directory of another tenant, or one that several tenants share.
//
// Each of these is what it is under any path that a bind mount gives it, not only under its own.
// A directory may be missing at its own path meanwhile. So tenantOf is asked which tenant a
// directory names as its owner; nil = none, or one that has left it.
//
// A regular file with several names is served unless one of them is there.
//
// current is asked at each link, so a reload is in force at once.
func FollowLinks(current func() *Snapshot, tenantOf func(dir string, known *Snapshot) *Tenant, config string, private ...string) fsutil.Links {
	config = absolute(config)
	for i, path := range private {
		private[i] = absolute(path)
	}
	names := newHardLinks(current, config, private)
	return func(link, target string, id fsutil.FileID) bool {
		if link == target {
			return names.mayServe(link, id)
		}
		way := wayTo(target)
		file := fsutil.Resolve(config)
		if way.find(file) == 0 || way.find(filepath.Dir(file)) == 1 {
			return false
		}
		for _, path := range private {
			if path != "" && way.find(fsutil.Resolve(path)) >= 0 {
				return false
			}
		}
		return current().mayFollow(fsutil.Resolve(filepath.Dir(link)), way, tenantOf)
	}
}

// mayFollow says whether links in the data directory dir may lead along a way. Of
// directories inside each other, a target belongs to the innermost.
func (s *Snapshot) mayFollow(dir string, way way, tenantOf func(dir string, known *Snapshot) *Tenant) bool {
	may, shared, innermost, others := false, false, len(way), false
	for _, t := range s.all {
		own := fsutil.Resolve(t.DataDir)
		if own == dir {
			may, shared = t.FollowLinks, t.SharedDataDir
		}
		switch i := way.find(own); {
		case i < 0 || i > innermost:
		case i < innermost:
			innermost, others = i, own != dir
		default:
			others = others || own != dir
		}
	}
	if !may || others || innermost < len(way) && shared {
		return false
	}
	for _, step := range way[:innermost] {
		if t := tenantOf(step.path, s); t != nil && fsutil.Resolve(t.DataDir) != dir {
			return false
		}
	}
	return true
}

// way is a path and the directories that lead to it, innermost first. A bind mount gives a
// directory another path, so each is known by what it is, too.
type way []struct {
	path string
	node fsutil.Node
}

func wayTo(target string) (w way) {
	for path, above := "", target; path != above; above = filepath.Dir(path) {
		path = above
		w = append(w, struct {
			path string
			node fsutil.Node
		}{path, fsutil.NodeOf(path)})
	}
	return w
}

// find is where on the way a path is, or -1.
func (w way) find(path string) int {
	node := fsutil.NodeOf(path)
	for i, step := range w {
		if step.path == path || step.node == node && node != (fsutil.Node{}) {
			return i
		}
	}
	return -1
}

// absolute is path from the root. "" stays as it is.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return path // the working directory is gone, and nothing can be relative to it
}
