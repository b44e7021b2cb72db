package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// printed is what print makes of an answer of the API.
func printed(t *testing.T, print func(*bytes.Buffer) error) string {
	t.Helper()
	var out bytes.Buffer
	if err := print(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestTablesFitTheScreen prints the longest ids, names, coordinates and paths.
func TestTablesFitTheScreen(t *testing.T) {
	t.Parallel()
	id, name := strings.Repeat("i", 62)+"1", strings.Repeat("ä", 120)
	last := time.Now().Add(-200 * time.Second).UTC().Format(time.RFC3339Nano)
	const coordinate = "999.999.999/999.999.999/999.999.999"
	row := fmt.Sprintf(`{"tenant_id":%q,"status":"disabled","storage_used_mb":1048576.123456,"quota_mb":10000000,"api_calls_today":123456789,"last_active":%q,"data_dir":"/var/lib/sq/tenants/%s","public":["%s","b"]}`, id, last, id, strings.Repeat("p", 100))
	list := printed(t, func(out *bytes.Buffer) error {
		return printList(out, []byte(`{"tenants":[`+row+`,{"tenant_id":"b","status":"active"}]}`))
	})
	show := printed(t, func(out *bytes.Buffer) error { return printTenant(out, []byte(row)) })
	past := printed(t, func(out *bytes.Buffer) error {
		var page historyPage
		if err := json.Unmarshal(fmt.Appendf(nil, `{"events":[{"time":%q,"op":"update","phext":%q,"coordinate":%q,"bytes":123456789,"key":"0123abcd","note":"a.name/1","writer":%q},
			{"time":"2026-01-31T15:04:05.123Z","op":"edited","phext":"n\u001b[2J\nx","bytes":5}]}`, last, name, coordinate, id), &page); err != nil {
			return err
		}
		return printHistory(out, page)
	})
	dry := printed(t, func(out *bytes.Buffer) error {
		return printRestored(out, []byte(fmt.Sprintf(`{"restored":[{"phext":%q,"bytes":123456789,"changed":true,"removed":true}],"removed":[%q,"other"],"dry_run":true,"manifest":false}`, name, name)))
	})
	for what, text := range map[string]string{"list": list, "show": show, "history": past, "restore": dry} {
		for line := range strings.Lines(text) {
			if what == "show" && !strings.Contains(strings.TrimSpace(line), " ") {
				continue // a path, in one piece
			}
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > screenWidth || strings.HasSuffix(line, " \n") {
				t.Errorf("%s: %d characters in %q", what, n, line)
			}
		}
	}
	for text, wants := range map[string][]string{
		list: {"\n" + id + "\n", " 3 min ago\n", "b       ", "TENANT "},
		show: {"\n    " + id + "\n", "\n    /var/lib/sq/tenants/" + id + "\n", "3 min ago (20", "1048576.123456 (10 % of the quota)", "calls_per_day        no limit"},
		past: {"Z  update", " " + coordinate + ", a.name/1, by\n    " + id + "\n", "2026-01-31T15:04:05.123Z  edited", "n\ufffd[2J\ufffdx\n", strings.Repeat("ä", 20)},
		dry:  {"would be removed: ", "shows that nothing is missing.\n"},
	} {
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("there is no %q in\n%s", want, text)
			}
		}
	}
	if strings.Contains(past, "\x1b") {
		t.Error("a phext's name reaches the terminal as it is")
	}
}

// TestTheListSaysWhatCannotBeRead, instead of a use of 0.
func TestTheListSaysWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	list := printed(t, func(out *bytes.Buffer) error {
		return printList(out, []byte(`{"tenants":[{"tenant_id":"a","status":"active","error":"reading the directory of tenant \"a\": open /d: not a directory"},{"tenant_id":"b","status":"active"}]}`))
	})
	want := `TENANT  STATUS  USED MB  QUOTA MB  CALLS TODAY  LAST ACTIVE
a       active  ?        -         0            -
b       active  0.000    -         0            -
reading the directory of tenant "a": open /d: not a directory
`
	if list != want {
		t.Errorf("%s", list)
	}
}

// TestFieldsAreInOrder has an answer with all fields, and one that nobody knows.
func TestFieldsAreInOrder(t *testing.T) {
	t.Parallel()
	out := printed(t, func(out *bytes.Buffer) error {
		return printTenant(out, []byte(`{"path_key_fingerprint":"f","zz":null,"child":"stopped","aa":"","last_active":null,"quota_mb":0,"storage_used_mb":0.5,"writers":["b","c"],"status":"active","tenant_id":"a","data_dir":"/d","admin_email":"e"}`))
	})
	var names []string
	for line := range strings.Lines(out) {
		names = append(names, strings.Fields(line)[0])
	}
	want := "tenant_id status admin_email data_dir storage_used_mb quota_mb requests_per_minute reads_per_minute writes_per_minute lists_per_minute calls_per_day last_active child writers path_key_fingerprint aa zz"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if !strings.Contains(out, "quota_mb              no limit\n") || !strings.Contains(out, "writers               b c\n") || !strings.Contains(out, "last_active           -\n") {
		t.Error(out)
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "now", 59 * time.Second: "59 s ago", 200 * time.Second: "3 min ago", 2 * time.Hour: "2 h ago", 47 * time.Hour: "47 h ago",
		49 * time.Hour: "2 days ago", 100 * 24 * time.Hour: "2026-02-21", -24 * time.Hour: "in 24 h",
	} {
		if got := ago(now.Add(-d), now); got != want {
			t.Errorf("%v: %q", d, got)
		}
	}
	for d, want := range map[time.Duration]string{0: "2026-06-01T12:00:00.000Z", 1: "2026-06-01T12:00:00.001Z", time.Millisecond: "2026-06-01T12:00:00.001Z"} {
		if got := moment(now.Add(d).In(time.FixedZone("", 7200))); got != want {
			t.Errorf("%v after: %q", d, got)
		}
	}
}
