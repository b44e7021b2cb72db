package tenants

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

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
	return createFile(path, text)
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

// createFile links a whole file into a place that must be free.
func createFile(path string, text []byte) error {
	aside, err := os.CreateTemp(filepath.Dir(path), ".sqgate-*")
	if err != nil {
		return err
	}
	err = errors.Join(fill(aside, text, replaced{mode: 0o600}), aside.Close())
	if err == nil {
		err = os.Link(aside.Name(), path)
	}
	err = errors.Join(err, os.Remove(aside.Name()))
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
