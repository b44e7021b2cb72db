package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"mirrorborn.us/sqgate/internal/disk"
)

// Log keys.
const (
	keyDataDir = "data_dir"
	keyDropped = "dropped_bytes"
	keyFile    = "file"
	keyAside   = "set_aside"
)

// Report is what a recovery found and did, in files.
type Report struct {
	Checked   int
	Healed    int // damaged: set aside, and replaced by the right one
	Completed int // a mutation that a crash had interrupted was made
	Kept      int // changed by somebody else, and kept so
}

// chain is what a segment says of one file.
type chain struct {
	file    string
	base    *record     // the last checkpoint
	done    []*Mutation // made since
	open    *record     // a begin without an end, if it is the last word
	aborted *Mutation   // one that did not happen, if it is the last word
	left    disk.FileID
}

// chains sorts a segment's records by file, in the order of their first.
func chains(records []*record) (all []*chain) {
	byFile, begun := map[string]*chain{}, map[uint64]*record{}
	for _, r := range records {
		switch r.kind {
		case kindCheckpoint:
			c := byFile[r.m.File]
			if c == nil {
				c = &chain{file: r.m.File}
				byFile[r.m.File] = c
				all = append(all, c)
			}
			*c = chain{file: r.m.File, base: r, left: r.id}
		case kindBegin:
			if c := byFile[r.m.File]; c != nil {
				begun[r.seq] = r
				c.open, c.aborted = r, nil
			}
		case kindDone, kindAbort:
			if b := begun[r.seq]; b != nil {
				byFile[b.m.File].end(b, r)
				delete(begun, r.seq)
			}
		}
	}
	return all
}

func (c *chain) end(begin, end *record) {
	c.open = nil
	if end.kind == kindDone {
		c.done, c.left = append(c.done, &begin.m), end.id
		return
	}
	c.aborted = &begin.m
}

// Recover makes the files what the journal says, after a crash of SQ, of
// sqgate or of the system. The caller sees to it that nobody else uses the
// directory, and may repeat it at any time.
func (j *Journal) Recover(ctx context.Context) (report Report, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.number == 0 {
		return report, nil
	}
	records, _, _, err := j.read(j.number)
	if err != nil || len(records) == 0 {
		j.fresh = true // a segment without a header says nothing
		return report, err
	}
	if err := j.sweep(); err != nil {
		return report, err
	}
	sameBoot := records[0].boot == j.set.config.BootID
	all := chains(records)
	begin := time.Now()
	for i, c := range all {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		if err := j.settle(c, sameBoot, &report); err != nil {
			return report, fmt.Errorf("phext file %q: %w", c.file, err)
		}
		if time.Since(begin) > time.Second {
			begin = time.Now()
			j.set.log.Info("files are being put in order", keyDataDir, j.dataDir, "done", i+1, "of", len(all))
		}
	}
	// The identities of files mean nothing across another start of the system.
	j.fresh = j.fresh || !sameBoot
	if report.Healed+report.Completed+report.Kept > 0 {
		j.set.log.Warn("files were put in order", keyDataDir, j.dataDir, "healed", report.Healed, "completed", report.Completed, "kept", report.Kept)
	}
	return report, nil
}

// sweep removes what unfinished replacements left.
func (j *Journal) sweep() error {
	entries, err := os.ReadDir(j.dataDir)
	if os.IsNotExist(err) {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), disk.Temporary) && e.Type().IsRegular() {
			err = errors.Join(err, os.Remove(filepath.Join(j.dataDir, e.Name())))
		}
	}
	return err
}

// settle puts one file in order.
func (j *Journal) settle(c *chain, sameBoot bool, report *Report) error {
	report.Checked++
	path := filepath.Join(j.dataDir, c.file)
	id, err := disk.Identify(path)
	if err != nil {
		return err
	}
	if sameBoot && c.open == nil && c.aborted == nil && id == c.left {
		return nil
	}
	found, err := readState(path)
	if err != nil {
		return err
	}
	s, err := j.expected(c)
	if err != nil {
		return err
	}
	return j.decide(c, s, found, sameBoot, report)
}

// states are what a file may rightly be: before and after the mutation that
// was under way, if there was one.
type states struct{ before, after, attempted State }

func (j *Journal) expected(c *chain) (s states, err error) {
	text, err := j.text(c.base)
	if err != nil {
		return s, err
	}
	all := make([]Mutation, len(c.done))
	for i, m := range c.done {
		all[i] = *m
	}
	s.before = State{Text: text, Exists: c.base.state.Exists}.afterAll(all)
	s.after, s.attempted = s.before, s.before
	switch {
	case c.open != nil:
		s.after = s.before.After(c.open.m)
		s.attempted = s.after
	case c.aborted != nil:
		s.attempted = s.before.After(*c.aborted)
	}
	return s, nil
}

func (j *Journal) decide(c *chain, s states, found State, sameBoot bool, report *Report) error {
	interrupted := c.open != nil || c.aborted != nil
	switch {
	case found == s.after:
		return j.note(c, found)
	case c.open != nil && found == s.before:
		report.Completed++
		return j.put(c, s.after)
	case !utf8.ValidString(found.Text),
		interrupted && torn(found, s.attempted, s.before),
		!sameBoot && (torn(found, s.attempted, s.before) || zeroed(found, s.after) || j.stale(c, found)):
		report.Healed++
		return j.heal(c, s.after, found)
	}
	report.Kept++
	j.set.log.Warn("a phext was changed by somebody else, and is kept so", keyDataDir, j.dataDir, keyFile, c.file)
	id, err := disk.Identify(filepath.Join(j.dataDir, c.file))
	if err != nil {
		return err
	}
	return j.checkpoint(c.file, found, id, true)
}
