package tenants

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// largestFile bounds what is read, in bytes: 5,000 tenants take about 2 MiB.
const largestFile = 16 << 20

// entry is one tenant as it stands in the file.
type entry struct {
	ID                 *string `json:"id,omitempty"`
	APIKey             *string `json:"api_key,omitempty"`
	APIKeySHA256       *string `json:"api_key_sha256,omitempty"`
	PreviousKeySHA256  *string `json:"previous_key_sha256,omitempty"`
	PreviousKeyExpires *string `json:"previous_key_expires,omitempty"`
	PathKey            *string `json:"path_key,omitempty"`
	DataDir            *string `json:"data_dir,omitempty"`
	QuotaMB            *int64  `json:"quota_mb,omitempty"`
	Enabled            *bool   `json:"enabled,omitempty"`
	AdminEmail         *string `json:"admin_email,omitempty"`
	CreatedAt          *string `json:"created_at,omitempty"`
	RequestsPerMinute  *int64  `json:"requests_per_minute,omitempty"`
	CallsPerDay        *int64  `json:"calls_per_day,omitempty"`
	MaxPhexts          *int64  `json:"max_phexts,omitempty"`
	AllowDelimiters    *bool   `json:"allow_delimiters,omitempty"`
	SharedDataDir      *bool   `json:"shared_data_dir,omitempty"`
}

// Load reads a tenants file. The error names the file and everything wrong
// with it: what Parse says, or that of the file system.
func Load(path string) (*Snapshot, error) {
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	s, err := Parse(text)
	if err != nil {
		return nil, fileError(path, err)
	}
	return s, nil
}

func fileError(path string, err error) error { return fmt.Errorf("tenants file %s: %w", path, err) }

func read(path string) ([]byte, error) {
	// Opening a FIFO would wait for a writer, and with it every reload and the end.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("tenants file: %w", err) // which names the path
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fileError(path, &FormatError{Problem: "this is not a regular file", Fix: "put the tenants file in its place"})
	}
	text, err := io.ReadAll(io.LimitReader(f, largestFile+1))
	if err != nil {
		return nil, fmt.Errorf("tenants file: %w", err)
	}
	if len(text) > largestFile {
		return nil, fileError(path, tooLarge())
	}
	return text, nil
}

// Parse reads the text of a tenants file, strictly. The whole file is refused
// for one thing wrong with it. The error is a *FormatError, or joins a
// *FieldError for each thing that is wrong.
func Parse(text []byte) (*Snapshot, error) {
	top, err := parseTop(text)
	if err != nil {
		return nil, err
	}
	var list *[]json.RawMessage
	var reload *bool
	b := &builder{}
	sound := b.decode(top, map[string]any{"tenants": &list, "reload_on_change": &reload})
	if sound && list == nil {
		b.refuse("tenants", "is missing", "give a list, [] if there are none yet")
	}
	b.begin(value(list, nil), value(reload, true))
	b.checkDirectories()
	if len(b.wrong) > 0 {
		return nil, errors.Join(b.wrong...)
	}
	return b.snapshot, nil
}
