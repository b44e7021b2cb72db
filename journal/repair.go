package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/disk"
)

// torn says whether a file is what a write that was cut off leaves.
func torn(found State, of ...State) bool {
	return slices.ContainsFunc(of, func(s State) bool {
		return s.Exists && (!found.Exists || strings.HasPrefix(s.Text, found.Text))
	})
}

// zeroed says whether a file is what a power failure leaves of a write that
// had not reached the disk: its end is NUL bytes.
func zeroed(found, of State) bool {
	kept := strings.TrimRight(found.Text, "\x00")
	return len(kept) < len(found.Text) && strings.HasPrefix(of.Text, kept)
}

// stale says whether a file is one of its earlier states, which is what a
// power failure leaves of writes that had not reached the disk.
func (j *Journal) stale(c *chain, found State) bool {
	text, err := j.text(c.base)
	if err != nil {
		return false
	}
	s := State{Text: text, Exists: c.base.state.Exists}
	for _, m := range c.done {
		if s == found {
			return true
		}
		if len(c.done) > mostStale {
			return false
		}
		s = s.After(*m)
	}
	return false
}

// mostStale bounds how many earlier states are looked at.
const mostStale = 1000

// heal sets a damaged file aside and puts the right one in its place.
func (j *Journal) heal(c *chain, right, found State) error {
	if found.Exists && found.Text != "" {
		aside, err := j.set.setAside(j.set.config.Now(), "torn", j.dataDir, c.file, []byte(found.Text))
		if err != nil {
			return err
		}
		j.set.log.Warn("a damaged phext was set aside", keyDataDir, j.dataDir, keyFile, c.file, keyAside, aside)
	}
	return j.put(c, right)
}

func (j *Journal) put(c *chain, right State) error {
	path := filepath.Join(j.dataDir, c.file)
	var err error
	if right.Exists {
		err = disk.Replace(path, right.Text, 0o644, true)
	} else if err = os.Remove(path); os.IsNotExist(err) {
		err = nil
	}
	if err != nil {
		return err
	}
	return j.note(c, right)
}

// note ends a mutation that was under way, and takes down how the file is now.
func (j *Journal) note(c *chain, now State) error {
	id, err := disk.Identify(filepath.Join(j.dataDir, c.file))
	if err != nil {
		return err
	}
	if c.open == nil {
		if id == c.left && c.aborted == nil {
			return nil
		}
		return j.checkpoint(c.file, now, id, false)
	}
	j.left[c.file] = id
	at := j.now()
	if c.open.m.Idempotency != "" {
		if err := j.answer(at, c.open.m); err != nil {
			return err
		}
	}
	return j.append(&record{kind: kindDone, seq: c.open.seq, time: at, id: id})
}

func readState(path string) (State, error) {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return State{}, nil
	}
	return State{Text: string(text), Exists: true}, err
}

// setAside keeps a copy of what is taken out of use, named with time and reason.
func (s *Set) setAside(now time.Time, reason, dataDir, file string, text []byte) (path string, err error) {
	if err := os.MkdirAll(s.config.Quarantine, 0o700); err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s-%s-%s-%s", now.UTC().Format("20060102T150405.000000000Z"), reason, filepath.Base(dataDir), file)
	if len(name) > 250 {
		name = name[:250]
	}
	path = filepath.Join(s.config.Quarantine, name)
	return path, disk.Replace(path, string(text), 0o600, true)
}
