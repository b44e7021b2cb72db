package tenants

import (
	"fmt"
	"os"
	"path/filepath"

	"mirrorborn.us/sqgate/internal/fsutil"
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
