package proxy

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// SQ truncates a file and writes it anew. File systems with a disk take that
// for a replacement which must not be lost, and begin to bring it to the disk
// when it is closed; the next truncation waits for that. On ext4 that is most
// of what an update costs SQ, and all that it costs on a slow disk. A file that
// is not there it makes, without any of that.
//
// So where the way back is on the disk, in the journal, the file is removed
// before SQ writes. Who reads by way of the gateway sees the page of before
// until the new one is verified; a crash leaves no file where it would have
// left a torn one, and recovery knows both.

// inSQ is the phext that a child has in memory, by the path of its file.
type inSQ struct {
	generation uint64 // of the child
	path       string
}

// canBeMadeAnew says whether the file may be removed for SQ to make it again.
// In memory nothing is gained: one call is made anew all the same, so that there
// is one way for both, and several go all at once, which is faster.
func (c *change) canBeMadeAnew() bool {
	return (c.onDisk || len(c.parts) == 1) && c.before.page.Exists() && !c.dir.keepsFiles.Load() && c.pending.CheckpointDurable() && fsutil.CanBeRecreated(c.path)
}

// holdsInMemory says whether the leased child has the phext in memory: SQ would
// read a file that is not there as an empty one.
func (p *passage) holdsInMemory() bool {
	if p.reload {
		return true // it has just read it
	}
	has := p.dir.inSQ.Load()
	return has != nil && *has == inSQ{p.lease.Generation(), p.path()}
}

func (p *passage) path() string { return p.calls[0].FilePath(p.dir.path) }

// keepFiles has SQ truncate the files of a directory from now on, since it did
// not make one anew: a disk may have no room for another file, say.
func (g *Gateway) keepFiles(d *dir) {
	if !d.keepsFiles.Swap(true) {
		g.log.Warn("SQ did not make a file that was removed for it: until sqgate is restarted, the files of this directory are rewritten in their place, which is slower",
			slog.String(keyDataDir, d.path))
	}
}

// remove takes the file out of SQ's way. Where that cannot be done, SQ
// truncates it.
func (p *passage) remove() {
	if err := os.Remove(p.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.anew = false
	}
}
