package journal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ending is the room that the end of a mutation needs at the most, and portion
// how much more is taken at a time, in bytes.
const (
	ending  = 1 << 10
	portion = 64 << 10
)

// secure takes room on the disk for n bytes: of a mutation, and of what ends it.
// A disk that fills up meanwhile would keep an Abort out of the journal, and
// recovery would make a mutation that was refused. Called under mu.
func (j *Journal) secure(n int) error {
	s, need := j.seg, j.seg.end+int64(n)
	if need <= s.room {
		return nil
	}
	if err := j.cfg.allocate(s.f, s.end, need+portion-s.end); err != nil {
		return fmt.Errorf("taking room for the journal of %s: %w", j.data, err)
	}
	s.room = need + portion
	return nil
}

// allocate takes room behind the end of a file, where the file system can.
func allocate(f *os.File, off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, n)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil
		}
		return err
	}
}
