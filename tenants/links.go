package tenants

import (
	"path/filepath"
	"strings"

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
// A regular file with several names is served unless one of them is there.
//
// current is asked at each link, so a reload is in force at once.
func FollowLinks(current func() *Snapshot, config string, private ...string) fsutil.Links {
	config = absolute(config)
	for i, path := range private {
		private[i] = absolute(path)
	}
	names := newHardLinks(current, config, private)
	return func(link, target string, id fsutil.FileID) bool {
		if link == target {
			return names.mayServe(link, id)
		}
		if filepath.Dir(target) == filepath.Dir(fsutil.Resolve(config)) {
			return false
		}
		for _, path := range private {
			if path != "" && contains(fsutil.Resolve(path), target) {
				return false
			}
		}
		return current().mayFollow(fsutil.Resolve(filepath.Dir(link)), target)
	}
}

// mayFollow says whether links in the data directory dir may lead to target. Of
// directories inside each other, a target belongs to the innermost.
func (s *Snapshot) mayFollow(dir, target string) bool {
	may, shared, innermost := false, false, ""
	for _, t := range s.all {
		own := fsutil.Resolve(t.DataDir)
		if own == dir {
			may, shared = t.FollowLinks, t.SharedDataDir
		}
		if contains(own, target) && len(own) > len(innermost) {
			innermost = own
		}
	}
	return may && (innermost == "" || innermost == dir && !shared)
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

// contains says whether path is dir, or lies somewhere in it.
func contains(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
