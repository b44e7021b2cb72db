package registry

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/tenants"
)

// TestADirectoryThatIsAnothersHere has tenants added elsewhere whose usual directory here
// somebody has given to another tenant. They get another one, and this host follows the
// bucket and starts as ever.
func TestADirectoryThatIsAnothersHere(t *testing.T) {
	b := bucket.NewMemory()
	one := newMachine(t, b)
	one = started(t, b, one.entry("xena"), one.entry("zorro"))
	two := one.another()
	// A link leads to zorro's, and xena has the very path.
	data := two.DataRoot
	two.check(os.MkdirAll(filepath.Join(data, "zorro"), 0o700))
	two.check(os.Symlink("zorro", filepath.Join(data, "link")))
	two.byHand(two.entryAt("xena", filepath.Join(data, "yard")), two.entryAt("zorro", filepath.Join(data, "zorro")))
	two.check(two.Reload())
	one.check(one.add("yard"))
	one.check(one.add("link"))
	one.check(one.add("zed"))
	one.check(one.setQuota("xena", 5))
	two.look()
	two.want("xena:5", "zorro:0", "yard:0", "link:0", "zed:0")
	if !two.Status().Successful() {
		t.Error(two.Status().Err)
	}
	for _, said := range []string{"tenant=yard other=xena", "tenant=link other=zorro"} {
		if n := strings.Count(two.log.String(), said); n != 1 {
			t.Errorf("%q is logged %d times: %s", said, n, two.log)
		}
	}
	dirs := func() (dirs []string) {
		for _, t := range two.Current().All() {
			dirs = append(dirs, t.ID+strings.TrimPrefix(t.DataDir, data))
		}
		return dirs
	}
	want := "[xena/yard zorro/zorro link/other.d/link yard/other.d/yard zed/zed]"
	if got := fmt.Sprint(dirs()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	two.check(two.start())
	one.check(one.setQuota("yard", 7))
	two.look()
	two.want("xena:5", "zorro:0", "yard:7", "link:0", "zed:0")
	if got := fmt.Sprint(dirs()); got != want {
		t.Errorf("after a start and a change: %s, want %s", got, want)
	}
	// And those that share one.
	two.byHand(two.entryAt("xena", filepath.Join(data, "shared.d", "team")))
	two.check(two.Reload())
	one.look()
	one.byHand(one.entry("xena", `"quota_mb": 1`), one.sharing("team-a"), one.sharing("team-b"))
	one.check(one.Reload())
	two.look()
	if got := fmt.Sprint(dirs()); got != "[xena/shared.d/team team-a/shared.d/other.d/team team-b/shared.d/other.d/team]" {
		t.Error(got)
	}
}

// entryAt is a tenant whose directory is at a path.
func (m *machine) entryAt(id, dir string) string {
	return fmt.Sprintf(`{"id": %q, "api_key": "key-of-%s", "data_dir": %q}`, id, id, dir)
}

// sharing is a tenant with a directory that others have too.
func (m *machine) sharing(id string) string {
	return fmt.Sprintf(`{"id": %q, "api_key": "key-of-%s", "data_dir": "/srv/team", "shared_data_dir": true}`, id, id)
}

// TestDirectoriesThatAreAllAnothers has no end of them.
func TestDirectoriesThatAreAllAnothers(t *testing.T) {
	b := bucket.NewMemory()
	one := newMachine(t, b)
	one = started(t, b, one.entry("a"), one.entry("b"))
	two := one.another()
	two.byHand(two.entryAt("a", filepath.Join(two.DataRoot, "c")), two.entryAt("b", filepath.Join(two.DataRoot, "other.d", "c")))
	two.check(two.Reload())
	one.check(one.add("c"))
	two.look()
	two.want("a:0", "b:0", "c:0")
	if _, err := tenants.Load(two.File); err != nil {
		t.Error(err)
	}
}

// TestASharerWhoIsNewHere gets the directory that those with whom it shares it have here,
// wherever that is: of two with one name, a host can serve neither.
func TestASharerWhoIsNewHere(t *testing.T) {
	for name, test := range map[string]struct {
		entries func(*machine) []string // on the host where they become sharers
		want    string
	}{
		"somebody is added": {
			func(m *machine) []string {
				return []string{m.entry("c"), m.sharing("a"), m.sharing("b"), m.sharing("d")}
			},
			"[c/c a/space/team b/space/team d/space/team]",
		},
		"somebody who was alone": {
			func(m *machine) []string { return []string{m.sharing("c"), m.sharing("a"), m.sharing("b")} },
			"[c/space/team a/space/team b/space/team]",
		},
		"another name": {
			func(m *machine) []string {
				return []string{m.entry("c"), m.sharing("a"), m.sharing("b"), strings.ReplaceAll(m.sharing("d"), "/srv/team", "/srv/crew")}
			},
			"[c/c a/space/team b/space/team d/shared.d/crew]",
		},
		"no sharer any more": {
			func(m *machine) []string { return []string{m.entry("c"), m.sharing("a"), m.entry("b")} },
			"[c/c a/space/team b/b]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := bucket.NewMemory()
			one := newMachine(t, b)
			one = started(t, b, one.entry("c"), one.sharing("a"), one.sharing("b"))
			two := one.another()
			at := func(id string) string { // where another host moved it
				return strings.ReplaceAll(one.sharing(id), "/srv/team", filepath.Join(two.DataRoot, "space", "team"))
			}
			two.byHand(two.entryAt("c", filepath.Join(two.DataRoot, "c")), at("a"), at("b"))
			two.check(two.Reload())
			one.byHand(test.entries(one)...)
			one.check(one.Reload())
			two.look()
			var dirs []string
			for _, t := range two.Current().All() {
				dirs = append(dirs, t.ID+strings.TrimPrefix(t.DataDir, two.DataRoot))
			}
			if got := fmt.Sprint(dirs); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if n := strings.Count(two.log.String(), "other="); n > 0 {
				t.Error(two.log)
			}
		})
	}
}
