package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/disk"
	"mirrorborn.us/sqgate/phext"
)

const (
	segmentSuffix = ".seg"
	besideSuffix  = ".phext"
)

func (j *Journal) segment(n int) string {
	return filepath.Join(j.dir, fmt.Sprintf("%08d%s", n, segmentSuffix))
}

// putBeside keeps a large checkpoint in a file of its own. Where the file
// system can share what is the same, it costs nothing.
func (j *Journal) putBeside(r *record) error {
	j.beside++
	r.beside = fmt.Sprintf("%08d.%d%s", j.number, j.beside, besideSuffix)
	r.sum = phext.Checksum(r.state.Text)
	f, err := os.OpenFile(filepath.Join(j.dir, r.beside), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if !cloned(f, filepath.Join(j.dataDir, r.m.File), r.length) {
		if _, err := j.set.write(f, []byte(r.state.Text), 0); err != nil {
			_ = f.Close()           // the error that led here says more
			_ = os.Remove(f.Name()) // likewise
			return err
		}
	}
	r.state.Text = ""
	j.flush.beside = append(j.flush.beside, f)
	return nil
}

func cloned(to *os.File, path string, length int64) bool {
	from, err := os.Open(path)
	if err != nil {
		return false
	}
	defer from.Close()
	info, err := from.Stat()
	return err == nil && info.Size() == length && unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil
}

// text is the text of a checkpoint, wherever it lies.
func (j *Journal) text(r *record) (string, error) {
	if r.beside == "" {
		return r.state.Text, nil
	}
	text, err := os.ReadFile(filepath.Join(j.dir, filepath.Base(r.beside)))
	if err != nil {
		return "", err
	}
	if phext.Checksum(string(text)) != r.sum {
		return "", fmt.Errorf("checkpoint %s: %w", r.beside, errDamaged)
	}
	return string(text), nil
}

// numbers are those of the segments there are, oldest first.
func (j *Journal) numbers() ([]int, error) {
	entries, err := os.ReadDir(j.dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	var all []int
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), segmentSuffix); ok {
			if n, err := strconv.Atoi(name); err == nil && n > 0 {
				all = append(all, n)
			}
		}
	}
	slices.Sort(all)
	return all, err
}

// read is the segment up to its end or its first damage, of which it says where it is.
func (j *Journal) read(n int) (all []*record, good, size int64, err error) {
	b, err := os.ReadFile(j.segment(n))
	if err != nil {
		return nil, 0, 0, err
	}
	size = int64(len(b))
	for len(b) > 0 {
		r, used, err := unframe(b)
		if err != nil || (good == 0) != (r.kind == kindHeader) {
			break
		}
		all = append(all, r)
		good += int64(used)
		b = b[used:]
	}
	return all, good, size, nil
}

// load finds out how the newest segment was left.
func (j *Journal) load() error {
	j.left = map[string]disk.FileID{}
	if err := j.answers.open(filepath.Join(j.dir, answersFile), j.set.config.Now()); err != nil {
		return err
	}
	all, err := j.numbers()
	if err != nil || len(all) == 0 {
		return err
	}
	j.number = all[len(all)-1]
	records, good, size, err := j.read(j.number)
	if err != nil {
		return err
	}
	j.size = good
	if good < size {
		if err := j.cut(good, size); err != nil {
			return err
		}
	}
	j.take(records)
	return nil
}

// cut takes the damaged end of a segment away, and keeps it for whoever wants to look.
func (j *Journal) cut(good, size int64) error {
	j.set.log.Warn("the end of a journal is damaged, and is set aside", keyDataDir, j.dataDir, keyDropped, size-good)
	b, err := os.ReadFile(j.segment(j.number))
	if err != nil {
		return err
	}
	if _, err := j.set.setAside(j.set.config.Now(), "damaged-journal", j.dataDir, filepath.Base(j.segment(j.number)), b[good:]); err != nil {
		return err
	}
	j.fresh = true
	return os.Truncate(j.segment(j.number), good)
}

// take replays the records as far as later mutations need them.
func (j *Journal) take(records []*record) {
	begun := map[uint64]*record{}
	for _, r := range records {
		j.seq, j.last = max(j.seq, r.seq), later(j.last, r.time)
		switch r.kind {
		case kindHeader:
			j.created = r.time
		case kindCheckpoint:
			j.left[r.m.File] = r.id
			j.held += r.length
			if r.beside != "" {
				j.beside++
			}
		case kindBegin:
			begun[r.seq] = r
		case kindDone:
			if b := begun[r.seq]; b != nil {
				j.left[b.m.File] = r.id
				if b.m.Idempotency != "" {
					j.answers.remember(r.time, b.m)
				}
			}
		}
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
