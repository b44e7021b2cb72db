package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// view is a journal as somebody reads it while others write to it. Nothing that
// it can see is pruned until it is closed.
type view struct {
	j        *Journal
	segments []*opening
}

// opening is one segment of a view.
type opening struct {
	number uint64
	end    int64 // as far as may be read; 0 = all of it
}

// view opens the segments, oldest first; only the newest of them if so wanted.
func (j *Journal) view(newestOnly bool) (*view, error) {
	j.reading.RLock()
	v := &view{j: j}
	newest, end, err := j.extent()
	if err == nil {
		err = v.open(newest, end, newestOnly)
	}
	if err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

// extent is the number of the newest segment and where its records end.
func (j *Journal) extent() (number uint64, end int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.open(); err != nil || j.seg == nil {
		return 0, 0, err
	}
	return j.seg.number, j.seg.end, nil
}

func (v *view) open(newest uint64, end int64, newestOnly bool) error {
	numbers, _, err := segments(v.j.dir)
	for _, n := range numbers {
		switch {
		case n == newest:
			v.segments = append(v.segments, &opening{n, end})
		case n < newest && !newestOnly:
			v.segments = append(v.segments, &opening{number: n})
		}
	}
	return err
}

func (v *view) close() { v.j.reading.RUnlock() }

// walk shows visit what can be read of a segment.
func (v *view) walk(o *opening, visit func(record) error) error {
	f, err := v.file(o)
	if err != nil {
		return err
	}
	_, err = walk(f, o.end, visit)
	return errors.Join(err, f.Close())
}

func (v *view) file(o *opening) (*os.File, error) {
	f, err := os.Open(filepath.Join(v.j.dir, segmentName(o.number)))
	if err != nil || o.end > 0 {
		return f, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	o.end = info.Size()
	return f, nil
}

// beyond says whether t is before what the journal knows: it once knew of it and
// does not any more, or t lies further back than it would keep anything. What
// was there shortly before the first mutation, its checkpoint says.
func (v *view) beyond(t int64) (bool, error) {
	for i, o := range v.segments {
		f, err := v.file(o)
		if err != nil {
			return false, err
		}
		head, whole, err := header(f)
		if err = errors.Join(err, f.Close()); err != nil || whole {
			pruned := i > 0 || o.number > 1
			return t < head.time && (pruned || t < v.j.cfg.Now().UnixNano()-int64(v.j.cfg.History)), err
		}
	}
	return false, nil
}

// current is the file as it lies in the data_dir.
func (v *view) current(file string) (State, error) {
	return readState(filepath.Join(v.j.data, file))
}

// missing is for errors of files that may just have gone.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
