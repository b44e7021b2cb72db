package tenants

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Errors of Edit. What is wrong with the file as it was edited by hand is an
// ErrBroken; what the change itself would make wrong is an ErrInvalid.
var (
	ErrBroken   = errors.New("the tenants file on disk has a mistake: mend it first")
	ErrInvalid  = errors.New("this would not be a valid tenants file")
	ErrNoTenant = errors.New("there is no such tenant")
	ErrExists   = errors.New("there is such a tenant already")
	ErrDiskFull = errors.New("the tenants file could not be written: the disk is full")
)

// Edit changes the file on disk and takes the result into force, watcher or
// not. It starts from the file as it is at this moment, keeps the order and
// the text of tenants that change leaves alone, and writes a whole new file
// into the place of the old. On an error both file and memory are as they
// were. Edits and reloads are one at a time.
func (s *Store) Edit(change func(*Document) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		again, err := s.edit(change)
		if !again {
			return err
		}
	}
}

// edit tries once. again says that somebody else changed the file meanwhile.
func (s *Store) edit(change func(*Document) error) (again bool, err error) {
	path := fsutil.Resolve(s.options.Path)
	before, err := os.Stat(path)
	if err != nil {
		return false, fmt.Errorf("tenants file: %w", err)
	}
	text, err := read(path)
	if err != nil {
		return false, err
	}
	next, now, err := s.edited(text, change)
	if err != nil {
		return false, err
	}
	if meanwhile, err := os.Stat(path); err != nil || !sameState(before, meanwhile) {
		return err == nil, err
	}
	if err := s.write(path, string(next)); err != nil {
		return false, writeError(err)
	}
	s.takeIntoForce(now)
	s.remember(next)
	return false, nil
}

func sameState(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func writeError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w (%w)", ErrDiskFull, err)
	}
	return fmt.Errorf("the tenants file could not be written: %w", err)
}

// edited applies a change to the text of a file.
func (s *Store) edited(text []byte, change func(*Document) error) (next []byte, now *Snapshot, err error) {
	if err := s.checkText(text); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	d, err := openDocument(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if err := change(d); err != nil {
		return nil, nil, err
	}
	if next, err = d.text(); err != nil {
		return nil, nil, err
	}
	if now, err = Parse(next); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return next, now, nil
}

// checkText refuses a file with a mistake. The one in force needs no second look.
func (s *Store) checkText(text []byte) error {
	if s.Status().Successful() && sha256.Sum256(text) == s.seen {
		return nil
	}
	_, err := Parse(text)
	return err
}

// Document is the tenants file as it is on disk, open for a change.
type Document struct {
	entries []json.RawMessage
	ids     []string
	reload  json.RawMessage // as it stands there; nil if it does not
}

// Entry is one tenant in a Document. Fields that are nil are not in the file.
type Entry = entry

func openDocument(text []byte) (*Document, error) {
	var file struct {
		Tenants []json.RawMessage `json:"tenants"`
		Reload  json.RawMessage   `json:"reload_on_change"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	d := &Document{entries: file.Tenants, reload: file.Reload}
	for _, raw := range file.Tenants {
		var e struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, err
		}
		d.ids = append(d.ids, e.ID)
	}
	return d, nil
}

// text is the document as a file.
func (d *Document) text() ([]byte, error) {
	if d.entries == nil {
		d.entries = []json.RawMessage{}
	}
	raw, err := json.Marshal(struct {
		Tenants []json.RawMessage `json:"tenants"`
		Reload  json.RawMessage   `json:"reload_on_change,omitempty"`
	}{d.entries, d.reload})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func (d *Document) find(id string) int {
	for i, have := range d.ids {
		if have == id {
			return i
		}
	}
	return -1
}

// Add puts a tenant behind the others; ErrExists if there is one of that id.
func (d *Document) Add(e Entry) error {
	if d.find(*e.ID) >= 0 {
		return ErrExists
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	d.entries, d.ids = append(d.entries, raw), append(d.ids, *e.ID)
	return nil
}

// Change changes a tenant where it stands; ErrNoTenant if there is none of that id.
func (d *Document) Change(id string, change func(*Entry) error) error {
	i := d.find(id)
	if i < 0 {
		return ErrNoTenant
	}
	var e Entry
	if err := json.Unmarshal(d.entries[i], &e); err != nil {
		return err
	}
	if err := change(&e); err != nil {
		return err
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	d.entries[i] = raw
	return nil
}

// Create writes a first tenants file, mode 0600, with the given tenants. It
// never replaces one: the error is then fs.ErrExist.
func Create(path string, list ...Entry) error {
	text, err := textOf(list)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return fsutil.CreatePrivate(path, string(text))
}

// Check says what Create would refuse to write, without writing anything.
func Check(list ...Entry) error {
	_, err := textOf(list)
	return err
}

// textOf is a tenants file that serve would take.
func textOf(list []Entry) ([]byte, error) {
	d := &Document{}
	for _, e := range list {
		if err := d.Add(e); err != nil {
			return nil, err
		}
	}
	text, err := d.text()
	if err != nil {
		return nil, err
	}
	if _, err := Parse(text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return text, nil
}
