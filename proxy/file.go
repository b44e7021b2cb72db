package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"syscall"
	"unicode/utf8"

	lru "github.com/hashicorp/golang-lru/v2"
)

// largestPhext is the largest file that SQ reads whole, in bytes; it cuts a
// larger one off, and its next mutation would make the loss permanent.
const largestPhext = 512 << 20

// vettedFiles is how many files are remembered as fit for SQ; one more costs a read, no more.
const vettedFiles = 1 << 14

// fileState is what is known of a phext's file before a request.
type fileState int

const (
	fileMissing fileState = iota
	fileKnown             // as this gateway last saw it
	fileNew               // not seen before, or changed by somebody else
)

// fileID tells one state of a file from another.
type fileID struct {
	dev, ino    uint64
	size        int64
	mtime, ctim syscall.Timespec
}

// files remembers which phext files may be fed to SQ: 0.5.3 breaks for good on
// one that is not UTF-8, and 0.5.6 takes it for empty and replaces it with its
// next mutation (LEGACY.md).
type files struct {
	vetted *lru.Cache[string, fileID]
}

func newFiles() files {
	c, err := lru.New[string, fileID](vettedFiles)
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	return files{vetted: c}
}

// check says what lies at path and how large it is, in bytes (-1 if there is
// nothing), and refuses what would break SQ.
func (f files) check(path string) (state fileState, size int64, err error) {
	id, err := identify(path)
	if errors.Is(err, fs.ErrNotExist) {
		f.vetted.Remove(path)
		return fileMissing, -1, nil
	}
	if err != nil {
		return fileMissing, -1, err
	}
	if known, ok := f.vetted.Get(path); ok && known == id {
		return fileKnown, id.size, nil
	}
	if err := vet(path); err != nil {
		return fileMissing, -1, err
	}
	f.vetted.Add(path, id)
	return fileNew, id.size, nil
}

// wrote notes the file as a mutation of ours left it.
func (f files) wrote(path string) {
	id, err := identify(path)
	if err != nil {
		f.vetted.Remove(path)
		return
	}
	f.vetted.Add(path, id)
}

func identify(path string) (fileID, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileID{}, err
	}
	if !info.Mode().IsRegular() {
		return fileID{}, damaged("is not a regular file")
	}
	if info.Size() > largestPhext {
		return fileID{}, damaged(fmt.Sprintf("is larger than the %d bytes that SQ can hold", largestPhext))
	}
	st := info.Sys().(*syscall.Stat_t)
	return fileID{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctim: st.Ctim}, nil
}

func vet(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !utf8.Valid(text) {
		return damaged("is not UTF-8 text")
	}
	return nil
}

func damaged(how string) error {
	return &answer{status: http.StatusBadGateway, code: "backend_failed",
		message: "the file of this phext " + how + ", so it was not given to SQ and nothing was changed: the operator can put it right"}
}
