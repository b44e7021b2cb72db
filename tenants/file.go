package tenants

import (
	"errors"
	"fmt"
	"io"
	"os"
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

// FieldError is one thing wrong with a tenants file. Its text names the
// tenant, the field and what to do, and never a key.
type FieldError struct {
	Tenant  string // id, or "" if that is what is wrong
	Index   int    // position in the file, from 1; 0 for the file itself
	Field   string
	Problem string
}

func (e *FieldError) Error() string {
	switch {
	case e.Index == 0:
		return fmt.Sprintf("field %q %s", e.Field, e.Problem)
	case e.Tenant == "":
		return fmt.Sprintf("tenant number %d: field %q %s", e.Index, e.Field, e.Problem)
	}
	return fmt.Sprintf("tenant %q: field %q %s", e.Tenant, e.Field, e.Problem)
}

// Load reads a tenants file. The error names the file and everything wrong with it.
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
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tenants file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, largestFile+1))
	if err != nil {
		return nil, fmt.Errorf("tenants file: %w", err)
	}
	if len(text) > largestFile {
		return nil, fmt.Errorf("tenants file %s: larger than %d bytes", path, largestFile)
	}
	return text, nil
}

// Parse reads the text of a tenants file, strictly. The whole file is refused
// for one thing wrong with it; the error joins everything that is.
func Parse(text []byte) (*Snapshot, error) {
	list, reload, err := decodeFile(text)
	if err != nil {
		return nil, err
	}
	b := newBuilder(len(list), reload)
	for i, e := range list {
		b.add(i+1, e)
	}
	b.checkDirectories()
	if len(b.wrong) > 0 {
		return nil, errors.Join(b.wrong...)
	}
	return b.snapshot, nil
}
