package datadir

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/cache"
)

// SQ keeps one phext in memory, and neither looks at its file again nor says
// which one it is (LEGACY.md). It would answer from memory although somebody
// else has changed the file, and write that memory over the change. So two things
// are remembered here: SeenBySQ says whether the file is in the state in which any
// child saw it last, so that SQ need not reload it; HasLoaded says whether this
// very child has this very phext in memory now.

// mostSeenFiles is how many files are remembered. One that is forgotten costs
// SQ a reload, no more.
const mostSeenFiles = 1 << 14

// sqMemory is what is known of the memory of all children.
type sqMemory struct {
	seen *lru.Cache[string, fsutil.FileID] // by path
	mu   sync.Mutex
	has  map[string]loadedPhext // by directory
}

// loadedPhext is the phext that a child has in memory, by the path of its file.
type loadedPhext struct {
	generation uint64 // of the child
	path       string
}

func newSQMemory() *sqMemory {
	seen, err := lru.New[string, fsutil.FileID](mostSeenFiles)
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	return &sqMemory{seen: seen, has: map[string]loadedPhext{}}
}

// SeenBySQ says whether SQ has this state of the file, if it has the phext in memory.
func (d *Dir) SeenBySQ(path string, id fsutil.FileID) bool {
	known, ok := d.dirs.sq.seen.Get(path)
	return ok && known == id
}

// NoteSeen notes the state of a file that SQ has written. With delimiters in a
// scroll, SQ has something else in memory than what stands in the file.
func (d *Dir) NoteSeen(path string, id fsutil.FileID, delimiters bool) {
	if delimiters {
		d.dirs.sq.seen.Remove(path)
		return
	}
	d.dirs.sq.seen.Add(path, id)
}

// HasLoaded says whether that child has the phext at path in memory.
func (d *Dir) HasLoaded(generation uint64, path string) bool {
	m := d.dirs.sq
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.has[d.Path] == loadedPhext{generation, path}
}

// NoteLoaded notes which phext the child has in memory. Only the holder of the
// write lock can know that: of several reads nobody knows which came last.
func (d *Dir) NoteLoaded(generation uint64, path string) {
	m := d.dirs.sq
	m.mu.Lock()
	defer m.mu.Unlock()
	m.has[d.Path] = loadedPhext{generation, path}
}

// NoteLoading notes that it is not known any more what the child has in memory.
func (d *Dir) NoteLoading() {
	m := d.dirs.sq
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.has, d.Path)
}

// CheckForSQ looks at a file before SQ reads it. If there is none, SQ would make
// an empty one. reload: SQ has not seen this state of it; once it has loaded it,
// that is to be noted with NoteSeen, and not before: other reads, too, must have
// SQ load it until then. A file that would break SQ is an error: 0.5.3 breaks for
// good on one that is not UTF-8, and newer ones take it for empty and replace it
// with their next write (LEGACY.md).
func (d *Dir) CheckForSQ(path string) (id fsutil.FileID, reload bool, err error) {
	id, err = d.dirs.Links.Identify(path)
	switch {
	case err != nil:
		return id, false, d.dirs.unfitFor(err)
	case !id.Exists():
		d.dirs.sq.seen.Remove(path)
		missing, err := d.isMissing(path)
		if err == nil && !missing {
			err = ErrBusy
		}
		return id, false, err
	case id.Size > cache.Largest:
		return id, false, Unfit(cache.ErrTooLarge.Error())
	case d.SeenBySQ(path, id):
		return id, false, nil
	}
	if id, err = d.checkText(path); err == nil {
		err = d.checkOwn(filepath.Dir(path))
	}
	return id, err == nil, d.dirs.unfitFor(err)
}

// checkText reads a file to its end, without holding it in memory, and says
// which state of it that was.
func (d *Dir) checkText(path string) (fsutil.FileID, error) {
	f, id, err := d.dirs.Links.Open(path)
	if err != nil {
		return id, err
	}
	defer f.Close()
	text, err := fsutil.IsText(io.LimitReader(f, cache.Largest))
	if err == nil && !text {
		err = cache.ErrNotText
	}
	return id, err
}

// mostNamed is how many coordinates an error names.
const mostNamed = 5

// CheckKept refuses a write to a file of which SQ would lose scrolls: its
// delimiters count past 999, and SQ keeps one of the scrolls that it takes to lie
// at the same coordinate.
func CheckKept(v *cache.Version) error {
	lost := v.Phext.Overwritten()
	if len(lost) == 0 {
		return nil
	}
	var at []string
	for _, c := range lost[:min(len(lost), mostNamed)] {
		at = append(at, c.String())
	}
	if len(lost) > mostNamed {
		at = append(at, "...")
	}
	return apierror.New(apierror.Conflict,
		"the file of this phext has more than one scroll at %s, since its delimiters count past 999, and SQ would keep only the last: nothing was changed; get the phext, and store its scrolls at coordinates up to 999 in another one",
		strings.Join(at, ", "))
}

// CheckWritable refuses a write that SQ could not make. exists says whether
// there is a file; a directory that does not exist yet is made with the child.
func CheckWritable(path string, exists bool) error {
	if !exists {
		path = filepath.Dir(path)
	}
	err := unix.Access(path, unix.W_OK)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return Unfit("cannot be written (" + err.Error() + ")")
}
