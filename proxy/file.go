package proxy

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf8"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/cache"
)

// vettedFiles is how many files are remembered as what SQ has in memory; one
// more costs SQ a reload, no more.
const vettedFiles = 1 << 14

// fileState is what is known of a phext's file before a request.
type fileState int

const (
	fileMissing fileState = iota
	fileKnown             // as this gateway last saw it
	fileNew               // not seen before, or changed by somebody else
)

// files remembers in which state SQ has seen which file: where that is not the
// present one, it has to read the file again, or it would answer from memory
// and write that memory over the change (LEGACY.md).
type files struct {
	seen *lru.Cache[string, fsutil.FileID]
}

func newFiles() files {
	c, err := lru.New[string, fsutil.FileID](vettedFiles)
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	return files{seen: c}
}

// knows says whether SQ, if it has the file in memory, has this state of it.
func (f files) knows(path string, id fsutil.FileID) bool {
	known, ok := f.seen.Get(path)
	return ok && known == id
}

// wrote notes the file as a mutation left it. What SQ has in memory of a text
// with delimiters is not what stands in the file.
func (f files) wrote(path string, id fsutil.FileID, delimited bool) {
	if delimited {
		f.seen.Remove(path)
		return
	}
	f.seen.Add(path, id)
}

// check says what lies at path before SQ reads it, and refuses what would
// break SQ: 0.5.3 breaks for good on a file that is not UTF-8, and 0.5.6 takes
// it for empty and replaces it with its next mutation (LEGACY.md).
func (f files) check(path string) (fileState, error) {
	id, err := fsutil.Identify(path)
	switch {
	case errors.Is(err, fsutil.ErrNotRegular):
		return fileMissing, damaged(err.Error())
	case err != nil:
		return fileMissing, err
	case !id.Exists():
		f.seen.Remove(path)
		return fileMissing, nil
	case id.Size > cache.Largest:
		return fileMissing, damaged(cache.ErrTooLarge.Error())
	case f.knows(path, id):
		return fileKnown, nil
	}
	if err := vet(path); err != nil {
		return fileMissing, err
	}
	f.seen.Add(path, id)
	return fileNew, nil
}

func vet(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !utf8.Valid(text) {
		return damaged(cache.ErrNotText.Error())
	}
	return nil
}

// writable refuses a write that SQ could not make. A directory that does not
// exist yet is made with the child.
func writable(path string, exists bool) error {
	if !exists {
		path = filepath.Dir(path)
	}
	err := unix.Access(path, unix.W_OK)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return damaged("cannot be written (" + err.Error() + ")")
}

func damaged(how string) error {
	return &answer{status: http.StatusBadGateway, code: "backend_failed",
		message: "the file of this phext " + how + ", so it was not given to SQ and nothing was changed: the operator can put it right"}
}

func itoa(n int) string { return strconv.Itoa(n) }

// quotaUsed is the form of X-SQ-Quota-Used, 0.000 to 1.000.
func quotaUsed(part float64) string { return strconv.FormatFloat(min(1, part), 'f', 3, 64) }
