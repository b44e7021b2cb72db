package tenants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"
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
}

// targets says where each field of an entry is decoded to.
func (e *Entry) targets() map[string]any {
	return map[string]any{
		"id": &e.ID, "api_key": &e.APIKey, "api_key_sha256": &e.APIKeySHA256,
		"previous_key_sha256": &e.PreviousKeySHA256, "previous_key_expires": &e.PreviousKeyExpires,
		"path_key": &e.PathKey, "data_dir": &e.DataDir, "quota_mb": &e.QuotaMB, "enabled": &e.Enabled, "archived": &e.Archived,
		"admin_email": &e.AdminEmail, "created_at": &e.CreatedAt, "incarnation": &e.Incarnation,
		"reads_per_minute": &e.ReadsPerMinute, "writes_per_minute": &e.WritesPerMinute, "lists_per_minute": &e.ListsPerMinute,
		"requests_per_minute": &e.RequestsPerMinute, "calls_per_day": &e.CallsPerDay, "max_phexts": &e.MaxPhexts,
		"allow_delimiters": &e.AllowDelimiters, "shared_data_dir": &e.SharedDataDir,
		"follow_links": &e.FollowLinks, "public": &e.Public, "writers": &e.Writers,
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
	return fmt.Errorf("tenants file %s: %w: let user %s read it and enter its directory (chown %[3]s %[1]s && chmod 600 %[1]s)", path, fs.ErrPermission, who)
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

// field is a field of a JSON object with its undecoded value.
type field struct {
	name  string
	value json.RawMessage
}

// parseTop returns the fields of the file's only JSON object. It refuses the
// tenants files of other programs.
func parseTop(text []byte) ([]field, error) {
	if isTOML(text) {
		return nil, foreignFormat("the Python gateway, in TOML")
	}
	top, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	for _, f := range top {
		if f.name != "tenants" {
			continue
		}
		if err := checkForeign(f.value); err != nil {
			return nil, err
		}
	}
	return top, nil
}

func parseObject(text []byte) ([]field, error) {
	if len(text) > maxFileSize {
		return nil, tooLarge()
	}
	if err := checkSyntax(text); err != nil {
		return nil, err
	}
	top, ok := fieldsOf(text)
	if !ok {
		return nil, &FormatError{Problem: "the file is not a JSON object", Fix: `write {"tenants": [...]}`}
	}
	return top, nil
}

func tooLarge() error {
	return &FormatError{Problem: fmt.Sprintf("the file is larger than %d bytes", maxFileSize), Fix: "a tenants file is wanted"}
}

// checkSyntax refuses what is not one JSON value in UTF-8. It uses
// json.Unmarshal, which bounds how deeply values are nested.
func checkSyntax(text []byte) error {
	if !utf8.Valid(text) {
		return &FormatError{Problem: "the file is not UTF-8", Fix: "save it as UTF-8"}
	}
	var raw json.RawMessage
	err := json.Unmarshal(text, &raw)
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return &FormatError{Problem: "the file is not JSON", Fix: err.Error()}
	}
	return syntaxError(text, syntax)
}

func syntaxError(text []byte, err *json.SyntaxError) error {
	e := &FormatError{Problem: "not JSON", Fix: err.Error()}
	e.Line, e.Column = position(text, err.Offset)
	switch {
	case strings.HasPrefix(err.Error(), "unexpected end"):
		e.Problem, e.Fix = "the file is empty or ends before its JSON does", "complete it"
	case strings.HasSuffix(err.Error(), "after top-level value"):
		e.Problem, e.Fix = "there is more behind the end of the JSON object", "remove it"
	}
	return e
}

// position is the line and column of a byte, given how many bytes there are up
// to and including it.
func position(text []byte, offset int64) (line, column int) {
	before := text[:min(len(text), max(0, int(offset)-1))]
	line = bytes.Count(before, []byte("\n")) + 1
	return line, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
}

// checkForeign refuses the value of "tenants" in other programs' files.
func checkForeign(list json.RawMessage) error {
	if _, isObject := fieldsOf(list); isObject {
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

// fieldsOf returns the fields of a JSON object in their order, with duplicates,
// of which encoding/json would silently drop all but the last. It reports false
// for any other value. The JSON must be valid.
func fieldsOf(valid json.RawMessage) (list []field, isObject bool) {
	d := json.NewDecoder(bytes.NewReader(valid))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, false
		}
		f := field{name: fmt.Sprint(name)}
		if err := d.Decode(&f.value); err != nil {
			return nil, false
		}
		list = append(list, f)
	}
	return list, true
}

// decode decodes each field to its target. It refuses unknown fields,
// duplicates and wrong types, and reports whether there were none.
func (b *builder) decode(list []field, targets map[string]any) bool {
	before, seen := len(b.mistakes), make(map[string]bool, len(list))
	for _, f := range list {
		target, known := targets[f.name]
		switch {
		case !known:
			b.refuse(safeName(f), "is unknown", "remove it, or correct its spelling (capitals count)")
		case seen[f.name]:
			b.refuse(f.name, "stands there twice", "keep one")
		case string(f.value) == "null" || json.Unmarshal(f.value, target) != nil:
			b.refuse(f.name, "has a value of the wrong kind", "write "+expected(target))
		}
		seen[f.name] = true
	}
	return len(b.mistakes) == before
}

// safeName is the name of an unknown field, or "" if it could be a key: other
// programs' files have keys as field names.
func safeName(f field) string {
	odd := strings.ContainsFunc(f.name, func(r rune) bool { return r != '_' && (!isAlphanumeric(r) || r <= '9') })
	if _, isObject := fieldsOf(f.value); odd || isObject || len(f.name) > 32 {
		return ""
	}
	return f.name
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
