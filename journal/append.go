package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/disk"
)

// append writes a record behind the last one, whole or not at all.
func (j *Journal) append(r *record) error {
	if err := j.reopen(); err != nil {
		return err
	}
	b := frame(nil, r)
	if r.kind == kindBegin || r.kind == kindCheckpoint {
		if err := j.secure(int64(len(b))); err != nil {
			return err
		}
	}
	if _, err := j.set.write(j.file, b, j.size); err != nil {
		_ = j.file.Truncate(j.size) // what is left of it is damage that the next opening cuts off
		return err
	}
	j.size += int64(len(b))
	j.flush.appended += uint64(len(b))
	return nil
}

// ending is the room that the end of a mutation needs at the most, and secured
// how much is taken at a time, in bytes.
const (
	ending  = 4 << 10
	secured = 64 << 10
)

// secure takes room on the disk for a record and for what ends its mutation,
// so that a disk which fills up meanwhile cannot keep that out: without it,
// recovery would make a mutation that was refused.
func (j *Journal) secure(n int64) error {
	if j.size+n+ending <= j.room {
		return nil
	}
	err := unix.Fallocate(int(j.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, j.size, n+secured)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return &os.PathError{Op: "fallocate", Path: j.file.Name(), Err: err}
	}
	j.room = j.size + n + secured
	return nil
}

func (j *Journal) reopen() error {
	if j.file != nil {
		return nil
	}
	f, err := os.OpenFile(j.segment(j.number), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	j.file, j.room = f, 0
	j.set.used(j)
	return nil
}

// rotate starts a new segment. The one before is on the disk first.
func (j *Journal) rotate() error {
	if err := j.rest(); err != nil {
		return err
	}
	if err := j.found(); err != nil {
		return err
	}
	path := j.segment(j.number + 1)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	now := j.now()
	head := frame(nil, &record{kind: kindHeader, time: now, boot: j.set.config.BootID})
	_, err = j.set.write(f, head, 0)
	if err == nil && j.set.config.Sync != Off {
		err = errors.Join(j.set.sync(f), disk.SyncDir(j.dir))
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	j.number, j.file, j.size, j.created = j.number+1, f, int64(len(head)), now
	j.room, j.held, j.beside, j.fresh, j.left = 0, 0, 0, false, map[string]disk.FileID{}
	j.set.used(j)
	j.prune()
	return nil
}

// found makes the journal's folder.
func (j *Journal) found() error {
	name := filepath.Join(j.dir, nameFile)
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	return disk.Replace(name, j.dataDir, 0o600, true)
}

// Rest closes the files until they are needed again.
func (j *Journal) Rest() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rest()
}

func (j *Journal) rest() error {
	if j.file == nil {
		return nil
	}
	err := j.flush.all(j)
	err = errors.Join(err, j.file.Truncate(j.size), j.file.Close()) // the room behind its end is given back
	j.file, j.room = nil, 0
	return errors.Join(err, j.answers.close())
}
