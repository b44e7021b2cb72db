package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
)

// writeCheckpointLocked returns the content of a checkpoint of state. If it is
// long, it is written to its own file.
func (j *Journal) writeCheckpointLocked(state State, seq uint64) (content, error) {
	c := content{exists: state.Exists, size: state.Size(), sum: state.Sum()}
	if c.size <= j.cfg.inlineMax {
		c.text = state.Whole().Text
		return c, nil
	}
	c.external = true
	f, err := os.OpenFile(filepath.Join(j.dir, checkpointName(j.seg.number, seq)), os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return content{}, fmt.Errorf("making a checkpoint: %w", err)
	}
	if _, err := state.WriteTo(&fileWriter{j: j, f: f}); err != nil {
		return content{}, errors.Join(fmt.Errorf("making a checkpoint: %w", err), f.Close(), os.Remove(f.Name()))
	}
	j.seg.unsynced = append(j.seg.unsynced, f)
	return c, nil
}

// dropCheckpointLocked removes the checkpoint of a mutation that could not be
// recorded.
func (j *Journal) dropCheckpointLocked(c content, seq uint64) error {
	if !c.external {
		return nil
	}
	name := filepath.Join(j.dir, checkpointName(j.seg.number, seq))
	err := os.Remove(name)
	if n := len(j.seg.unsynced); n > 0 && j.seg.unsynced[n-1].Name() == name {
		err = errors.Join(err, j.seg.unsynced[n-1].Close())
		j.seg.unsynced = j.seg.unsynced[:n-1]
	}
	return err
}

// readCheckpoint returns the state in a checkpoint record of segment number.
func readCheckpoint(dir string, number uint64, r record, turn *fairqueue.Turn) (State, error) {
	text, c := r.content.text, r.content
	if c.external {
		var err error
		if text, err = readExternal(filepath.Join(dir, checkpointName(number, r.seq)), c.size, turn); err != nil {
			return State{}, fmt.Errorf("the checkpoint of %s: %w", r.m.File, err)
		}
	}
	if int64(len(text)) != c.size || xxh3.HashString128(text).Bytes() != c.sum {
		return State{}, fmt.Errorf("the checkpoint of %s %w", r.m.File, ErrDamaged)
	}
	return State{Text: text, Exists: c.exists}, nil
}

func readExternal(path string, size int64, turn *fairqueue.Turn) (text string, err error) {
	f, err := fsutil.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err != nil || info.Size() != size {
		return "", errors.Join(ErrDamaged, err)
	}
	var b strings.Builder
	b.Grow(int(size))
	_, err = io.CopyN(&b, turn.Reader(f), size)
	return b.String(), err
}
