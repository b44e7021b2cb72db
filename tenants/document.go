package tenants

import (
	"bytes"
	"encoding/json"
)

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
