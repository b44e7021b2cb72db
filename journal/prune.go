package journal

import (
	"fmt"
	"os"
	"path/filepath"
)

// prune removes the oldest segments that are past the history or the limit.
func (j *Journal) prune() {
	all, err := j.numbers()
	if err != nil {
		return // the next rotation tries again
	}
	total := int64(0)
	sizes := map[int]int64{}
	for _, n := range all {
		sizes[n] = j.weight(n)
		total += sizes[n]
	}
	for _, n := range all[:max(0, len(all)-1)] {
		info, err := os.Stat(j.segment(n))
		if err != nil {
			continue
		}
		old := info.ModTime().Before(j.set.config.Now().Add(-j.set.config.History))
		if !old && (j.set.config.Limit == 0 || total <= j.set.config.Limit) {
			return
		}
		for _, path := range j.parts(n) {
			_ = os.Remove(path) // what stays is tried again at the next rotation
		}
		total -= sizes[n]
	}
}

// parts are the files of a segment, its checkpoints first.
func (j *Journal) parts(n int) []string {
	beside, _ := filepath.Glob(filepath.Join(j.dir, fmt.Sprintf("%08d.*%s", n, besideSuffix))) // the pattern is well-formed
	return append(beside, j.segment(n))
}

func (j *Journal) weight(n int) (bytes int64) {
	for _, path := range j.parts(n) {
		if info, err := os.Stat(path); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}
