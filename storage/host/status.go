package host

import (
	"cmp"
	"slices"
)

// Owned is a directory that this host owns in the bucket.
type Owned struct {
	Name          string  `json:"name"` // in the bucket
	Path          string  `json:"data_dir"`
	Epoch         uint64  `json:"epoch"`
	Position      uint64  `json:"position"`   // number of the last object of its log
	Checkpoint    uint64  `json:"checkpoint"` // position of the last checkpoint
	BehindSeconds float64 `json:"behind_seconds"`
}

// Owned returns the directories that this host owns now, sorted by name.
func (ds *Directories) Owned() []Owned {
	k := &ds.housekeeping
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]Owned, 0, len(k.logs))
	for name, one := range k.logs {
		if one.ownership.Err() != nil || !one.lease.holds() {
			continue
		}
		since, _ := one.uploader.Behind()
		all = append(all, Owned{name, one.path, one.log.Epoch(), one.log.End(), one.compacted.Load(), since.Seconds()})
	}
	slices.SortFunc(all, func(a, b Owned) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
