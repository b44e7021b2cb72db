package tenants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"
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

// parseTop reads the file's outermost JSON: one object and nothing behind it.
func parseTop(text []byte) ([]field, error) {
	if isTOML(text) {
		return nil, foreign("the Python gateway, in TOML")
	}
	top, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	for _, f := range top {
		if f.name != "tenants" {
			continue
		}
		if err := otherFormat(f.value); err != nil {
			return nil, err
		}
	}
	return top, nil
}

func parseObject(text []byte) ([]field, error) {
	if len(text) > largestFile {
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
	return &FormatError{Problem: fmt.Sprintf("the file is larger than %d bytes", largestFile), Fix: "a tenants file is wanted"}
}

// checkSyntax refuses what is not one JSON value in UTF-8. json.Unmarshal
// bounds how deep values may nest, which a scanner of ours would have to.
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
	e.Line, e.Column = place(text, err.Offset)
	switch {
	case strings.HasPrefix(err.Error(), "unexpected end"):
		e.Problem, e.Fix = "the file is empty or ends before its JSON does", "complete it"
	case strings.HasSuffix(err.Error(), "after top-level value"):
		e.Problem, e.Fix = "there is more behind the end of the JSON object", "remove it"
	}
	return e
}

// place turns the number of bytes up to and with the wrong one into its line
// and column.
func place(text []byte, offset int64) (line, column int) {
	before := text[:min(len(text), max(0, int(offset)-1))]
	line = bytes.Count(before, []byte("\n")) + 1
	return line, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
}

// otherFormat recognises the tenants files of other programs on such hosts.
func otherFormat(list json.RawMessage) error {
	if _, isObject := fieldsOf(list); isObject {
		return foreign("SQ's own multi-tenant mode, with keys as names")
	}
	if isRouted(list) {
		return foreign("the SQ router, with tokens and ports")
	}
	return nil
}

// isRouted says whether it is tokens that the first tenant of a list has.
func isRouted(list json.RawMessage) bool {
	var routed []struct {
		Token json.RawMessage `json:"token"`
	}
	return json.Unmarshal(list, &routed) == nil && len(routed) > 0 && routed[0].Token != nil
}

func isTOML(text []byte) bool {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte("[[tenants]]")) {
			return true
		}
	}
	return false
}

func foreign(program string) error {
	return &FormatError{Problem: "this is a tenants file of " + program,
		Fix: "`sqgate init --from FILE` converts it"}
}

// field is one field of a JSON object, as it stands there.
type field struct {
	name  string
	value json.RawMessage
}

// fieldsOf takes a sound JSON value apart, in its order and with what stands
// there twice: encoding/json would let the last one win, and not say so. It
// reports false for anything but an object.
func fieldsOf(sound json.RawMessage) (list []field, isObject bool) {
	d := json.NewDecoder(bytes.NewReader(sound))
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

// slots is where each field of an entry goes.
func (e *entry) slots() map[string]any {
	return map[string]any{
		"id": &e.ID, "api_key": &e.APIKey, "api_key_sha256": &e.APIKeySHA256,
		"previous_key_sha256": &e.PreviousKeySHA256, "previous_key_expires": &e.PreviousKeyExpires,
		"path_key": &e.PathKey, "data_dir": &e.DataDir, "quota_mb": &e.QuotaMB, "enabled": &e.Enabled,
		"admin_email": &e.AdminEmail, "created_at": &e.CreatedAt,
		"requests_per_minute": &e.RequestsPerMinute, "calls_per_day": &e.CallsPerDay, "max_phexts": &e.MaxPhexts,
		"allow_delimiters": &e.AllowDelimiters, "shared_data_dir": &e.SharedDataDir,
	}
}

// decode puts each field into its slot, and reports whether nothing was wrong.
func (b *builder) decode(list []field, slots map[string]any) bool {
	before, seen := len(b.wrong), make(map[string]bool, len(list))
	for _, f := range list {
		slot, known := slots[f.name]
		switch {
		case !known:
			b.refuse(fitName(f), "is unknown", "remove it, or correct its spelling (capitals count)")
		case seen[f.name]:
			b.refuse(f.name, "stands there twice", "keep one")
		case string(f.value) == "null" || json.Unmarshal(f.value, slot) != nil:
			b.refuse(f.name, "has a value of the wrong kind", "write "+wanted(slot))
		}
		seen[f.name] = true
	}
	return len(b.wrong) == before
}

// fitName is the name of an unknown field, or nothing if it might be a key:
// other formats have keys as names.
func fitName(f field) string {
	odd := strings.ContainsFunc(f.name, func(r rune) bool { return r != '_' && (!isAlphanumeric(r) || r <= '9') })
	if _, isObject := fieldsOf(f.value); odd || isObject || len(f.name) > 32 {
		return ""
	}
	return f.name
}

func wanted(slot any) string {
	switch slot.(type) {
	case **string:
		return `a text in quotes, "..."`
	case **int64:
		return "a whole number, without quotes, point or exponent"
	case **bool:
		return "true or false, without quotes"
	}
	return "a list, [...]"
}

// soundID is the id among an entry's fields if it is fit to name the tenant
// with, so that whatever else is wrong there can be said of somebody.
func soundID(list []field) string {
	for _, f := range list {
		var id string
		if f.name == "id" && json.Unmarshal(f.value, &id) == nil && ValidID(id) == nil {
			return id
		}
	}
	return ""
}
