package tenants

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Edit changes the file on disk and puts the result into effect at once. It
// starts from the file as it is now, keeps the order of the tenants and the
// text of those that change leaves alone, and replaces the file as a whole.
// change may be called again if somebody else writes the file meanwhile. On an
// error, neither the file nor the current snapshot has changed. Edits and
// reloads wait for each other.
func (s *Store) Edit(change func(*Document) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		again, err := s.editLocked(change)
		if !again {
			return err
		}
	}
}

// editLocked tries once. again means that somebody else changed the file meanwhile.
func (s *Store) editLocked(change func(*Document) error) (again bool, err error) {
	path := fsutil.Resolve(s.options.Path)
	before, err := fsutil.Identify(path)
	if err != nil {
		return false, Broken(fileError(path, err))
	}
	text, err := readFile(path)
	if err != nil {
		return false, Broken(err)
	}
	d, edited, now, err := s.applyLocked(text, change)
	if err != nil {
		return false, err
	}
	if s.options.Agree != nil {
		return s.shareLocked(path, before, d, edited, now)
	}
	if meanwhile, err := fsutil.Identify(path); err != nil || meanwhile != before {
		return err == nil, err
	}
	if err := s.write(path, string(edited)); err != nil {
		return false, notWritten(err)
	}
	s.activateLocked(now)
	s.rememberLocked(edited)
	return false, nil
}

// shareLocked has Agree take an edit, of which text and now are what d is, and then the
// file follow. The edit is made from there on, even if the file cannot be written.
func (s *Store) shareLocked(path string, before fsutil.FileID, d *Document, text []byte, now *Snapshot) (again bool, err error) {
	agreed, done, err := s.options.Agree(d, true)
	if errors.Is(err, ErrMeanwhile) {
		err = s.reloadLocked(true)
		return err == nil, err
	}
	if err != nil {
		return false, err
	}
	s.unsettled = true // the file is looked at again, until it follows
	if agreed != d {
		if text, now, err = agreed.parse(); err != nil {
			return false, notFollowed(err)
		}
	}
	if meanwhile, err := fsutil.Identify(path); err != nil || meanwhile != before {
		if err := s.reloadLocked(true); err != nil {
			return false, notFollowed(err)
		}
		return false, nil
	}
	if err := s.write(path, string(text)); err != nil {
		return false, notFollowed(err)
	}
	done()
	s.unsettled = false
	s.activateLocked(now)
	s.rememberLocked(text)
	return false, nil
}

// applyLocked applies change to the text of a file.
func (s *Store) applyLocked(text []byte, change func(*Document) error) (d *Document, edited []byte, now *Snapshot, err error) {
	if err := s.checkLocked(text); err != nil {
		return nil, nil, nil, Broken(err)
	}
	if d, err = openDocument(text); err != nil {
		return nil, nil, nil, Broken(err)
	}
	if err := change(d); err != nil {
		return nil, nil, nil, err
	}
	edited, now, err = d.parse()
	return d, edited, now, err
}

// checkLocked refuses a text with a mistake. It skips one that is in effect.
func (s *Store) checkLocked(text []byte) error {
	if s.Status().Successful() && sha256.Sum256(text) == s.lastSum {
		return nil
	}
	_, err := Parse(text)
	return err
}

// Document is a tenants file that is being edited.
type Document struct {
	entries []json.RawMessage
	ids     []string        // of entries
	reload  json.RawMessage // value of reload_on_change; nil if the file has none
}

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

// Has says whether there is a tenant with this id.
func (d *Document) Has(id string) bool { return slices.Contains(d.ids, id) }

// Add appends a tenant, whose ID must be set. The error is ErrExists if there
// is one with the same id.
func (d *Document) Add(e Entry) error {
	if slices.Contains(d.ids, *e.ID) {
		return ErrExists
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	d.entries, d.ids = append(d.entries, raw), append(d.ids, *e.ID)
	return nil
}

// Change changes a tenant in place. The error is ErrNoTenant if there is none
// with this id.
func (d *Document) Change(id string, change func(*Entry) error) error {
	i := slices.Index(d.ids, id)
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

// Remove removes a tenant, if check allows it, and takes it out of the writers of the
// others: whoever gets the id later must not inherit that. The error is ErrNoTenant if
// there is none with this id.
func (d *Document) Remove(id string, check func(*Entry) error) error {
	if err := d.Change(id, check); err != nil {
		return err
	}
	i := slices.Index(d.ids, id)
	d.entries, d.ids = slices.Delete(d.entries, i, i+1), slices.Delete(d.ids, i, i+1)
	for i, other := range d.ids {
		if !bytes.Contains(d.entries[i], []byte("writers")) {
			continue
		}
		err := d.Change(other, func(e *Entry) error {
			if e.Writers != nil {
				*e.Writers = slices.DeleteFunc(*e.Writers, func(writer *string) bool { return *writer == id })
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Create writes a new tenants file with the given tenants, mode 0600. It never
// replaces a file: the error is then fs.ErrExist. Its directory is made if need
// be.
func Create(path string, list ...Entry) error {
	text, err := newFile(list)
	if err != nil {
		return err
	}
	return create(path, text)
}

func create(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return fsutil.CreatePrivate(path, string(text))
}

// Snapshot is what the file says of the tenants. The error is that of Check.
func (d *Document) Snapshot() (*Snapshot, error) {
	_, s, err := d.parse()
	return s, err
}

// Check returns the error with which Create would refuse the tenants. It writes
// nothing.
func Check(list ...Entry) error {
	_, err := newFile(list)
	return err
}

// newFile is the text of a tenants file that Parse accepts.
func newFile(list []Entry) ([]byte, error) {
	d := &Document{}
	for _, e := range list {
		if err := d.Add(e); err != nil {
			return nil, err
		}
	}
	text, _, err := d.parse()
	return text, err
}

// Check returns the error with which a Store would refuse the file.
func (d *Document) Check() error {
	_, _, err := d.parse()
	return err
}

func (d *Document) parse() (text []byte, s *Snapshot, err error) {
	if text, err = d.text(); err != nil {
		return nil, nil, err
	}
	if s, err = Parse(text); err != nil {
		return nil, nil, invalid(err)
	}
	return text, s, nil
}
