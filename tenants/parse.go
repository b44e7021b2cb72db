package tenants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/nearest"
	"mirrorborn.us/sqgate/internal/strictjson"
)

// maxFileSize bounds what is read, in bytes. 5,000 tenants take about 2 MiB.
const maxFileSize = 16 << 20

// Entry is a tenant as the file has it. A nil field is not in the file.
type Entry struct {
	ID                 *string `json:"id,omitempty"`
	APIKey             *string `json:"api_key,omitempty"`
	APIKeySHA256       *string `json:"api_key_sha256,omitempty"`
	PreviousKeySHA256  *string `json:"previous_key_sha256,omitempty"`
	PreviousKeyExpires *string `json:"previous_key_expires,omitempty"`
	PathKey            *string `json:"path_key,omitempty"`
	PathKeySHA256      *string `json:"path_key_sha256,omitempty"`
	DataDir            *string `json:"data_dir,omitempty"`
	QuotaMB            *int64  `json:"quota_mb,omitempty"`
	Enabled            *bool   `json:"enabled,omitempty"`
	Archived           *bool   `json:"archived,omitempty"`
	AdminEmail         *string `json:"admin_email,omitempty"`
	CreatedAt          *string `json:"created_at,omitempty"`
	Incarnation        *string `json:"incarnation,omitempty"` // see NewIncarnation
	RequestsPerMinute  *int64  `json:"requests_per_minute,omitempty"`
	ReadsPerMinute     *int64  `json:"reads_per_minute,omitempty"`
	WritesPerMinute    *int64  `json:"writes_per_minute,omitempty"`
	ListsPerMinute     *int64  `json:"lists_per_minute,omitempty"`
	CallsPerDay        *int64  `json:"calls_per_day,omitempty"`
	MaxPhexts          *int64  `json:"max_phexts,omitempty"`
	AllowDelimiters    *bool   `json:"allow_delimiters,omitempty"`
	SharedDataDir      *bool   `json:"shared_data_dir,omitempty"`
	FollowLinks        *bool   `json:"follow_links,omitempty"`

	Public  json.RawMessage `json:"public,omitempty"`  // {"phexts": [PATTERN, ...], "access": "read"}
	Writers *[]*string      `json:"writers,omitempty"` // ids

	Keys *[]json.RawMessage `json:"keys,omitempty"` // each a KeyEntry

	Webhooks *[]json.RawMessage `json:"webhooks,omitempty"` // each a WebhookEntry
}

// targets says where each field of an entry is decoded to.
func (e *Entry) targets() map[string]any {
	return map[string]any{
		"id": &e.ID, "api_key": &e.APIKey, "api_key_sha256": &e.APIKeySHA256,
		"previous_key_sha256": &e.PreviousKeySHA256, "previous_key_expires": &e.PreviousKeyExpires,
		"path_key": &e.PathKey, "path_key_sha256": &e.PathKeySHA256, "data_dir": &e.DataDir, "quota_mb": &e.QuotaMB, "enabled": &e.Enabled, "archived": &e.Archived,
		"admin_email": &e.AdminEmail, "created_at": &e.CreatedAt, "incarnation": &e.Incarnation,
		"reads_per_minute": &e.ReadsPerMinute, "writes_per_minute": &e.WritesPerMinute, "lists_per_minute": &e.ListsPerMinute,
		"requests_per_minute": &e.RequestsPerMinute, "calls_per_day": &e.CallsPerDay, "max_phexts": &e.MaxPhexts,
		"allow_delimiters": &e.AllowDelimiters, "shared_data_dir": &e.SharedDataDir,
		"follow_links": &e.FollowLinks, "public": &e.Public, "writers": &e.Writers, "keys": &e.Keys,
		"webhooks": &e.Webhooks,
	}
}

// Load reads and parses a tenants file. The error names the file; it wraps that
// of Parse or of the file system.
func Load(path string) (*Snapshot, error) {
	text, err := readFile(path)
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

func readFile(path string) ([]byte, error) {
	// Without O_NONBLOCK, opening a FIFO would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, permissionError(path)
	case err != nil:
		return nil, fmt.Errorf("tenants file: %w", err) // err names the path
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fileError(path, &FormatError{Problem: "this is not a regular file", Fix: "put the tenants file in its place"})
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("tenants file: %w", err)
	}
	if len(text) > maxFileSize {
		return nil, fileError(path, tooLarge())
	}
	return text, nil
}

// permissionError names the command that lets this process read and replace the file.
func permissionError(path string) error {
	who := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(who); err == nil {
		who = u.Username
	}
	return fmt.Errorf("tenants file %s: %w: let user %s read it and enter its directory (chown %s %[1]s && chmod 600 %[1]s)", path, fs.ErrPermission, who, fsutil.Owner(os.Geteuid()))
}

// Parse reads the text of a tenants file. It is strict: one mistake, and the
// whole file is refused. The error is a *FormatError, or joins a *FieldError
// for each mistake.
func Parse(text []byte) (*Snapshot, error) {
	top, err := parseTop(text)
	if err != nil {
		return nil, err
	}
	var list *[]json.RawMessage
	var reload *bool
	b := &builder{}
	ok := b.decode(top, map[string]any{"tenants": &list, "reload_on_change": &reload})
	if ok && list == nil {
		b.refuse("tenants", "is missing", "give a list, [] if there are none yet")
	}
	b.build(valueOr(list, nil), valueOr(reload, true))
	if len(b.mistakes) > 0 {
		return nil, errors.Join(b.mistakes...)
	}
	return b.snapshot, nil
}

// parseTop returns the fields of the file's only JSON object. It refuses the
// tenants files of other programs.
func parseTop(text []byte) ([]strictjson.Field, error) {
	if isTOML(text) {
		return nil, foreignFormat("the Python gateway, in TOML")
	}
	top, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	for _, f := range top {
		if f.Name != "tenants" {
			continue
		}
		if err := checkForeign(f.Value); err != nil {
			return nil, err
		}
	}
	return top, nil
}

func parseObject(text []byte) ([]strictjson.Field, error) {
	if len(text) > maxFileSize {
		return nil, tooLarge()
	}
	if m := strictjson.Check(text); m != nil {
		return nil, m
	}
	top, ok := strictjson.Fields(text)
	if !ok {
		return nil, &FormatError{Problem: "the file is not a JSON object", Fix: `write {"tenants": [...]}`}
	}
	return top, nil
}

func tooLarge() error {
	return &FormatError{Problem: fmt.Sprintf("the file is larger than %d bytes", maxFileSize), Fix: "a tenants file is wanted"}
}

// checkForeign refuses the value of "tenants" in other programs' files.
func checkForeign(list json.RawMessage) error {
	if _, isObject := strictjson.Fields(list); isObject {
		return foreignFormat("SQ's own multi-tenant mode, with keys as names")
	}
	if hasTokens(list) {
		return foreignFormat("the SQ router, with tokens and ports")
	}
	return nil
}

func foreignFormat(program string) error {
	return &FormatError{Problem: "this is a tenants file of " + program,
		Fix: "`sqgate init --from FILE` converts it"}
}

// hasTokens says whether the first tenant of a list has a token, as in the
// router's file.
func hasTokens(list json.RawMessage) bool {
	var tenants []struct {
		Token json.RawMessage `json:"token"`
	}
	return json.Unmarshal(list, &tenants) == nil && len(tenants) > 0 && tenants[0].Token != nil
}

// isTOML recognises the Python gateway's file.
func isTOML(text []byte) bool {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte("[[tenants]]")) {
			return true
		}
	}
	return false
}

// decode decodes each field to its target. It refuses unknown fields,
// duplicates and wrong types, and reports whether there were none.
func (b *builder) decode(list []strictjson.Field, targets map[string]any) bool {
	before, seen := len(b.mistakes), make(map[string]bool, len(list))
	for _, f := range list {
		target, known := targets[f.Name]
		switch {
		case !known:
			b.refuseUnknown(safeName(f), targets)
		case seen[f.Name]:
			b.refuse(f.Name, "stands there twice", "keep one")
		case string(f.Value) == "null" || json.Unmarshal(f.Value, target) != nil:
			b.refuse(f.Name, "has a value of the wrong kind", "write "+expected(target))
		}
		seen[f.Name] = true
	}
	return len(b.mistakes) == before
}

func (b *builder) refuseUnknown(name string, targets map[string]any) {
	meant := ""
	if name != "" {
		meant = nearest.DidYouMean(name, "", slices.Sorted(maps.Keys(targets)))
	}
	b.refuse(name, "is unknown", "remove it, or correct its spelling (capitals count)"+meant)
}

// safeName is the name of an unknown field, or "" if it could be a key: other
// programs' files have keys as field names.
func safeName(f strictjson.Field) string {
	odd := strings.ContainsFunc(f.Name, func(r rune) bool { return r != '_' && r != '.' && (!isAlphanumeric(r) || r <= '9') })
	if _, isObject := strictjson.Fields(f.Value); odd || isObject || len(f.Name) > 32 {
		return ""
	}
	return f.Name
}

func expected(target any) string {
	switch target.(type) {
	case **string:
		return `a text in quotes, "..."`
	case **int64:
		return "a whole number, without quotes, point or exponent"
	case **bool:
		return "true or false, without quotes"
	case *json.RawMessage:
		return "an object, {...}"
	}
	return "a list, [...]"
}
