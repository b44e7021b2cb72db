package journal

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// A journal is that of a path, and the path may be given to others: tenants move, with
// their files, and may come back. So the journal has a note of whose it is. Nothing of it
// is shown to others. It repairs files that are others' now, or were moved, only if a crash
// may have damaged them before, and nobody has changed them since.

// ownerFile has the note.
const ownerFile = "owner"

// Owners are the tenants whose data_dir it is.
type Owners struct {
	Tenants []string // their UniqueIDs, sorted
	Shared  bool     // each has only the files that begin with its id and a dot

	Exists func(tenant string) bool // whether a UniqueID is in the tenants file; nil = it is. Only Claim asks
}

// ownerNote is what ownerFile holds, as JSON. A journal of an earlier version has none.
type ownerNote struct {
	Tenants   []string `json:"tenants"`
	Away      []string `json:"away,omitempty"` // were among them, and may have changed their files since
	Shared    bool     `json:"shared,omitempty"`
	Directory string   `json:"directory,omitempty"` // fsutil.BirthOf it; "" = it is not known
	From      uint64   `json:"from,omitempty"`      // the segments before this one are of others
	ID        string   `json:"id,omitempty"`        // see idAttribute; "" = an earlier version has begun the journal
	Since     int64    `json:"since,omitempty"`     // when tenants were noted, in ns since 1970; 0 = by an earlier version
}

func (n *ownerNote) knows(tenant string) bool {
	return slices.Contains(n.Tenants, tenant) || slices.Contains(n.Away, tenant)
}

// knowsOthers says whether anybody but a tenant has had the data_dir.
func (n *ownerNote) knowsOthers(tenant string) bool {
	return slices.ContainsFunc(slices.Concat(n.Tenants, n.Away), func(t string) bool { return t != tenant })
}

func (n *ownerNote) equals(m *ownerNote) bool {
	return m != nil && n.Shared == m.Shared && n.Directory == m.Directory && n.From == m.From && n.ID == m.ID &&
		slices.Equal(n.Tenants, m.Tenants) && slices.Equal(n.Away, m.Away)
}

// without is the note when tenants have another data_dir.
func (n *ownerNote) without(tenants []string) *ownerNote {
	gone := func(t string) bool { return slices.Contains(tenants, t) }
	if !slices.ContainsFunc(n.Tenants, gone) {
		return n
	}
	left := *n
	left.Tenants, left.Away = nil, slices.Clone(n.Away)
	for _, t := range n.Tenants {
		if gone(t) {
			left.Away = append(left.Away, t)
		} else {
			left.Tenants = append(left.Tenants, t)
		}
	}
	return &left
}

// ownerNotes are those of all journals of a Set, by the journal's directory. They are read
// when the first is asked for.
type ownerNotes struct {
	mu      sync.Mutex
	of      map[string]*ownerNote // nil = they were not read yet
	damaged map[string]error      // of those that cannot be read
}

// noteOf is the note of a journal, or nil.
func (s *settings) noteOf(dir string) (*ownerNote, error) {
	s.owners.mu.Lock()
	defer s.owners.mu.Unlock()
	if err := s.readNotesLocked(); err != nil {
		return nil, err
	}
	if s.owners.damaged[dir] != nil { // somebody may have put it right
		s.readNoteLocked(dir)
		s.leaveEarlierLocked()
	}
	return s.owners.of[dir], s.owners.damaged[dir]
}

func (s *settings) readNotesLocked() error {
	if s.owners.of != nil {
		return nil
	}
	entries, err := os.ReadDir(s.Dir)
	if fsutil.IgnoreMissing(err) != nil {
		return fmt.Errorf("looking for journals: %w", err)
	}
	s.owners.of, s.owners.damaged = map[string]*ownerNote{}, map[string]error{}
	for _, e := range entries {
		if e.IsDir() && !strings.HasSuffix(e.Name(), purgedSuffix) {
			s.readNoteLocked(filepath.Join(s.Dir, e.Name()))
		}
	}
	s.leaveEarlierLocked()
	return nil
}

// readNoteLocked reads the note of one journal.
func (s *settings) readNoteLocked(dir string) {
	delete(s.owners.damaged, dir)
	n := &ownerNote{}
	text, err := fsutil.ReadFile(filepath.Join(dir, ownerFile))
	if err == nil {
		err = json.Unmarshal(text, n)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		s.owners.damaged[dir] = fmt.Errorf("%s, which says whose the journal is, cannot be read: %w", filepath.Join(dir, ownerFile), err)
	default:
		s.owners.of[dir] = n
	}
}

// leaveEarlierLocked takes those out of a note whom a later one has: they left while the
// earlier one was damaged, and somebody has put that right as it was.
func (s *settings) leaveEarlierLocked() {
	latest := map[string]int64{}
	for _, n := range s.owners.of {
		for _, t := range n.Tenants {
			latest[t] = max(latest[t], n.Since)
		}
	}
	for dir, n := range s.owners.of {
		left := n.without(slices.DeleteFunc(slices.Clone(n.Tenants), func(t string) bool { return n.Since >= latest[t] }))
		if left == n {
			continue
		}
		if err := s.writeNote(dir, left); err != nil {
			s.owners.damaged[dir] = err
			continue
		}
		s.owners.of[dir] = left
	}
}

// setNote notes whose a journal is. While the journal has no directory, it is noted in memory.
func (s *settings) setNote(dir string, n *ownerNote) error {
	s.owners.mu.Lock()
	defer s.owners.mu.Unlock()
	return s.setNoteLocked(dir, n)
}

func (s *settings) setNoteLocked(dir string, n *ownerNote) error {
	if err := s.readNotesLocked(); err != nil {
		return err
	}
	before, noted := s.owners.of[dir], *n
	if before != nil {
		noted.ID = cmp.Or(n.ID, before.ID)
	}
	if noted.equals(before) {
		return nil
	}
	if before != nil && slices.Equal(n.Tenants, before.Tenants) {
		noted.Since = before.Since
	} else {
		noted.Since = s.Now().UnixNano()
	}
	if err := s.writeNote(dir, &noted); fsutil.IgnoreMissing(err) != nil {
		return err
	}
	s.owners.of[dir] = &noted
	return nil
}

// writeNote fails if there is no directory.
func (s *settings) writeNote(dir string, n *ownerNote) error {
	text, err := json.Marshal(n)
	if err == nil {
		_, err = os.Stat(dir)
	}
	if err == nil {
		err = s.replace(filepath.Join(dir, ownerFile), strings.NewReader(string(text)+"\n"), 0o600, true)
	}
	if err != nil {
		return fmt.Errorf("noting whose the journal is: %w", err)
	}
	return nil
}

func (s *settings) dropNote(dir string) {
	s.owners.mu.Lock()
	defer s.owners.mu.Unlock()
	delete(s.owners.of, dir)
	delete(s.owners.damaged, dir)
}

// leaveOthers notes in all other journals that tenants have left them.
func (s *settings) leaveOthers(dir string, tenants []string) error {
	s.owners.mu.Lock()
	defer s.owners.mu.Unlock()
	if err := s.readNotesLocked(); err != nil {
		return err
	}
	for other, n := range s.owners.of {
		if other == dir {
			continue
		}
		if err := s.setNoteLocked(other, n.without(tenants)); err != nil {
			return err
		}
	}
	return nil
}

// NotedElsewhere are the data_dirs that are noted as one tenant's alone, by its UniqueID, except
// dataDir, which it has now: SettleClaim there will note that it has left them.
func (s *Set) NotedElsewhere(tenant, dataDir string) (dirs []string, err error) {
	known := s.knownDirs()
	s.cfg.owners.mu.Lock()
	defer s.cfg.owners.mu.Unlock()
	if err := s.cfg.readNotesLocked(); err != nil {
		return nil, err
	}
	for dir, n := range s.cfg.owners.of {
		if n.Shared || len(n.Tenants) != 1 || n.Tenants[0] != tenant {
			continue
		}
		path, err := known.of(dir)
		if fsutil.IgnoreMissing(err) != nil {
			return nil, err
		}
		if err == nil && path != dataDir {
			dirs = append(dirs, path)
		}
	}
	return dirs, nil
}

// claim says what the journal means for those who have the data_dir now.
type claim struct {
	before *ownerNote
	now    ownerNote
	idle   bool // nobody has the data_dir now: nothing is repaired until somebody has it
	anew   bool // nothing in the journal is of theirs
	ids    bool // they may be those who had the data_dir, with other ids: nobody but the operator knows

	replaced  bool     // the directory is another one than before, or was written with another journal since
	written   bool     // it was written with another journal since
	inDoubt   bool     // a crash may have damaged the files since they were recovered last
	copied    bool     // the directory is a copy, made after that crash
	elsewhere *Journal // of the path where it is; nil = it is at its own
}

// standing is what the journal means for a file.
type standing int

const (
	usual    standing = iota // it says what the file should hold
	returned                 // nothing: its owner may have changed the file elsewhere since
	foreign                  // nothing: the file is somebody else's
	left                     // it says what a crash has damaged in a file of those who had the directory until now
	brought                  // it says what the file should hold, of which this is a copy made before a recovery
)

// Claim says whose the data_dir is now. Nobody else uses the journal or changes the data_dir
// until the next Recover, which goes by it and notes it. others says that the journal was
// of others: it begins anew then, and nobody sees any more what was before.
func (j *Journal) Claim(now Owners) (others bool, err error) {
	before, err := j.cfg.noteOf(j.dir)
	if err != nil {
		return false, err
	}
	c := &claim{before: before, now: ownerNote{Tenants: now.Tenants, Shared: now.Shared}}
	switch {
	case before == nil && len(now.Tenants) == 0:
		c = nil
	case before == nil: // it is taken for theirs, as an earlier version would
	case len(now.Tenants) == 0:
		c.idle = true
	case before.isOf(now):
		c.now.From = before.From
		for _, t := range slices.Concat(before.Tenants, before.Away) {
			if !slices.Contains(now.Tenants, t) && !slices.Contains(c.now.Away, t) {
				c.now.Away = append(c.now.Away, t)
			}
		}
	default:
		c.anew, c.ids, c.now.ID = true, j.cfg.haveOtherIDs(j.dir, before, now), rand.Text()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.claim = c
	return c != nil && c.anew, nil
}

// haveOtherIDs says whether those who have a data_dir may be those who had it, with other ids. The tenants
// file has no others who had it, and no other journal knows those who have come.
func (s *settings) haveOtherIDs(dir string, n *ownerNote, now Owners) bool {
	if now.Exists == nil || slices.ContainsFunc(n.Tenants, func(t string) bool { return !slices.Contains(now.Tenants, t) && now.Exists(t) }) {
		return false
	}
	s.owners.mu.Lock()
	defer s.owners.mu.Unlock()
	for other, of := range s.owners.of {
		if other != dir && slices.ContainsFunc(now.Tenants, func(t string) bool { return !n.knows(t) && of.knows(t) }) {
			return false
		}
	}
	return len(s.owners.damaged) == 0 // one of those may know them
}

// IsOf says whether the journal is of any of those who have the data_dir now, as far as it
// notes that.
func (j *Journal) IsOf(now Owners) (bool, error) {
	n, err := j.cfg.noteOf(j.dir)
	return n == nil || len(now.Tenants) == 0 || n.isOf(now), err
}

// IsOnlyOf says whether nobody but a tenant, by its UniqueID, has had the data_dir, as far as it
// is noted.
func (j *Journal) IsOnlyOf(tenant string) (bool, error) {
	n, err := j.cfg.noteOf(j.dir)
	if n == nil || err != nil {
		return err == nil, err
	}
	return !n.knowsOthers(tenant), nil
}

// WasShared says whether those who were noted last shared the data_dir.
func (j *Journal) WasShared() bool {
	n, err := j.cfg.noteOf(j.dir)
	return err == nil && n != nil && n.Shared
}

// IsNoted says whether all of them are noted as those who have the data_dir.
func (j *Journal) IsNoted(now Owners) bool {
	n, err := j.cfg.noteOf(j.dir)
	return err == nil && n != nil && !slices.ContainsFunc(now.Tenants, func(t string) bool { return !slices.Contains(n.Tenants, t) })
}

// isOf says whether a part of the journal belongs to those who have the data_dir now. What
// several have shared belongs to none of them alone: it would see the others' files as its own.
func (n *ownerNote) isOf(now Owners) bool {
	if !now.Shared && n.Shared && len(n.Tenants)+len(n.Away) > 1 {
		return false
	}
	return slices.ContainsFunc(now.Tenants, n.knows)
}

// claimed is the claim that is not settled yet, or nil.
func (j *Journal) claimed() *claim {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.claim
}

// beginAnew hides all that the journal has until now.
func (j *Journal) beginAnew(c *claim) error {
	return j.forgetChanges(func(p Position) error {
		j.cfg.Logger.Warn("a data_dir was another tenant's before: its journal begins anew, and shows nothing of that",
			"data_dir", j.dataDir, "tenants", c.now.Tenants, "before", c.before.Tenants)
		c.now.From, j.from, j.files = p.Segment, p.Segment, map[string]*fileState{}
		return j.cfg.setNote(j.dir, &c.now)
	})
}

// of says what the journal means for a file. In a shared directory, the names of the files
// say whose they are.
func (c *claim) of(file string) standing {
	if c == nil || c.before == nil {
		return usual
	}
	if c.idle {
		return foreign
	}
	if c.anew && c.before.Shared && !c.replaced && slices.Contains(c.now.Tenants, ownerIn(c.before.Tenants, file)) {
		return usual
	}
	if c.anew {
		return c.ofOthers()
	}
	owner := ""
	if c.now.Shared {
		owner = ownerIn(c.now.Tenants, file)
		if owner == "" && c.before.Shared && ownerIn(c.before.Tenants, file) != "" {
			return c.ofOthers()
		}
		if owner == "" && c.before.Shared && ownerIn(c.before.Away, file) != "" {
			return foreign
		}
	}
	if owner == "" && !c.before.Shared && len(c.before.Tenants)+len(c.before.Away) == 1 { // all is of this one
		owner = slices.Concat(c.before.Tenants, c.before.Away)[0]
	}
	if owner == "" && !c.now.Shared {
		owner = c.now.Tenants[0]
	}
	switch {
	case owner != "" && !c.before.knows(owner):
		return foreign
	case c.copied && (owner == "" || slices.Contains(c.before.Tenants, owner)):
		return brought
	case c.replaced, owner != "" && !slices.Contains(c.before.Tenants, owner):
		return returned
	}
	return usual
}

// ofOthers is the standing of a file of those who had the directory until now.
func (c *claim) ofOthers() standing {
	if c.inDoubt && !c.replaced && len(c.before.Tenants) > 0 && (c.ids || !c.anew) {
		return left
	}
	return foreign
}

// wasOthers says whether a foreign file that was renamed aside is of those who had the directory. It is not if it
// has come with another directory, or has the name of somebody who is new among those who share it.
func (c *claim) wasOthers(file string) bool {
	stranger := c.before.Shared && c.now.Shared && ownerIn(slices.Concat(c.before.Tenants, c.before.Away), file) == ""
	return !c.replaced && !stranger
}

// ownerBefore tells files apart by who had them in a shared directory; "" = nobody did alone.
func (c *claim) ownerBefore(file string) string {
	if c == nil || c.before == nil || !c.before.Shared {
		return ""
	}
	return ownerIn(c.before.Tenants, file)
}

// ownerIn is the UniqueID of the one whose files begin as this one does, or "".
func ownerIn(tenants []string, file string) string {
	for _, t := range tenants {
		if id, _, _ := strings.Cut(t, "/"); strings.HasPrefix(file, id+".") {
			return t
		}
	}
	return ""
}

// look finds out whether the data_dir, to which the path at leads, is another directory than
// the one that was noted, or was written with another journal since. A copy has another time
// of birth, and a disk that gets another device number has not. One that is not there was
// never replaced: recovery makes it again.
func (c *claim) look(at string) error {
	if c == nil {
		return nil
	}
	birth, err := fsutil.BirthOf(at)
	if err != nil {
		return err
	}
	c.now.Directory = birth.String()
	if was, written := c.before, idAt(at); was != nil { // one without an id of its own was never used with any
		c.written = written != "" && written != was.ID
		c.replaced = c.now.Directory != "" && was.Directory != "" && c.now.Directory != was.Directory || c.written
	}
	return nil
}

// syncAll has all phexts of the data_dir, to which the path at leads, on the disk. This journal
// cannot bring back what somebody else has written: the one of another path, or a copy. A phext
// that cannot be opened or synced keeps no other from being served.
func (j *Journal) syncAll(at string) error {
	entries, err := os.ReadDir(at)
	if err != nil || len(entries) == 0 {
		return fsutil.IgnoreMissing(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), phext.Extension) {
			continue
		}
		there, err := j.syncPhext(at, e.Name())
		if there && err != nil { // the disk has failed to write it, of which the kernel says nothing any more; see unsyncedFile
			err = j.writeOnceMore(filepath.Join(at, e.Name()))
		}
		if err != nil {
			j.cfg.Logger.Warn("a phext that was written elsewhere may not be on the disk", "path", filepath.Join(j.dataDir, e.Name()), "error", fsutil.Named(err, at, j.dataDir))
		}
	}
	return j.cfg.syncDir(at)
}

// writeOnceMore writes a phext's file as it is.
func (j *Journal) writeOnceMore(path string) error {
	now, err := OpenState(j.cfg.Links, path)
	if err == nil && now.Exists {
		err = j.writeState(path, now)
	}
	return err
}

// SettleClaim notes whose the journal is, after a recovery that went by that, or where
// nothing was to be recovered. What is there is on the disk first, since no journal repairs it
// once the others have noted that its owners have left. The newest segment must say nothing then of files that are not
// theirs, since it will be the journal of those whom the note has. The path at leads to the
// data_dir.
func (j *Journal) SettleClaim(at string) (err error) {
	defer func() { err = j.orNoRoom(err, map[string]int64{}) }() // no file has to be repaired
	if c := j.claimed(); c != nil && (c.before == nil || c.anew || c.replaced) {
		if err := j.syncAll(at); err != nil {
			return err
		}
	}
	if c := j.claimed(); c != nil && !c.idle && (c.before == nil || !slices.Equal(c.before.Tenants, c.now.Tenants)) {
		if err := j.cfg.leaveOthers(j.dir, c.now.Tenants); err != nil {
			return err
		}
	}
	if c := j.claimed(); c != nil {
		if err := j.setAsideOthers(c); err != nil {
			return err
		}
	}
	if c := j.claimed(); c != nil && c.anew {
		if err := j.beginAnew(c); err != nil {
			return err
		}
	}
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.claim
	if c == nil {
		return nil
	}
	if birth, err := fsutil.BirthOf(at); err == nil {
		c.now.Directory = birth.String() // recovery may have made it
	}
	if err := j.openLocked(); err != nil {
		return err
	}
	if c.before != nil && !c.anew && j.seg != nil && !slices.Equal(c.before.Tenants, c.now.Tenants) {
		for file := range j.files {
			if s := c.of(file); s == foreign || s == left {
				delete(j.files, file)
			}
		}
		if err := j.rotateLocked(); err != nil {
			return err
		}
	}
	if n, err := j.cfg.noteOf(j.dir); err == nil && (n == nil || n.ID == "") {
		c.now.ID = cmp.Or(c.now.ID, rand.Text())
	}
	j.claim = nil
	if err := j.cfg.setNote(j.dir, &c.now); err != nil {
		return err
	}
	j.stamp(at)
	return nil
}
