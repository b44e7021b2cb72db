package tenants

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// linked is a store whose tenants have data_dirs that are links, each to a directory a.
type linked struct {
	*runningStore
	t    *testing.T
	root string
}

func newLinked(t *testing.T, shared bool, ids ...string) *linked {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l := &linked{t: t, root: root}
	l.check(os.Mkdir(l.at("a"), 0o700))
	var list []string
	for _, id := range ids {
		link := id
		if shared {
			link = "all"
		}
		if _, err := os.Lstat(l.at(link)); err != nil {
			l.lead(link, "a")
		}
		list = append(list, fmt.Sprintf(`{"id": %q, "api_key": "key-of-%[1]s", "data_dir": %q, "shared_data_dir": %v}`, id, l.at(link), shared))
	}
	path := l.at("tenants.json")
	writeFile(t, path, `{"tenants": [`+strings.Join(list, ",")+`]}`)
	l.runningStore = run(t, Options{Path: path, Poll: time.Millisecond})
	return l
}

func (l *linked) at(name string) string { return filepath.Join(l.root, name) }

func (l *linked) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// lead has a link lead to another directory, at once.
func (l *linked) lead(link, to string) {
	l.t.Helper()
	l.check(os.Symlink(to, l.at("next")))
	l.check(os.Rename(l.at("next"), l.at(link)))
}

func (l *linked) wantAt(id, name string) {
	l.t.Helper()
	s := l.Current()
	who, ok := s.ByID(id)
	if !ok || who.DataDir != l.at(name) {
		l.t.Fatalf("%s has %+v, want %s", id, who, l.at(name))
	}
	if at := s.At(l.at(name)); len(at) == 0 || at[len(at)-1] != who && at[0] != who {
		l.t.Errorf("at %s are %v", name, at)
	}
}

func TestALinkThatLeadsElsewhere(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared %v", shared), func(t *testing.T) {
			ids := []string{"will", "mary"}
			if !shared {
				ids = ids[:1]
			}
			l := newLinked(t, shared, ids...)
			link := map[bool]string{false: "will", true: "all"}[shared]
			last := func(name string) {
				t.Helper()
				if d := l.next(t); len(d.Changed) != len(ids) || len(d.Added)+len(d.Removed) > 0 {
					t.Errorf("%+v", d)
				}
				for _, id := range ids {
					l.wantAt(id, name)
				}
			}
			l.check(os.Mkdir(l.at("b"), 0o700))
			l.lead(link, "b")
			last("b")
			// A link that leads to nothing, or is not there, leaves it where it was.
			for _, gone := range []func(){func() { l.lead(link, "nothing") }, func() { l.check(os.Remove(l.at(link))) }} {
				gone()
				l.check(l.Reload())
				for _, id := range ids {
					l.wantAt(id, "b")
				}
			}
			l.check(os.Mkdir(l.at(link), 0o700))
			last(link)
			if l.Current().leadsElsewhere() {
				t.Error("it is read again and again")
			}
		})
	}
}

// TestALinkThatLeadsToAnothers is refused, once, and everything stays as it is.
func TestALinkThatLeadsToAnothers(t *testing.T) {
	l := newLinked(t, false, "will")
	l.check(os.Mkdir(l.at("marys"), 0o700))
	l.check(l.Edit(func(d *Document) error {
		dir, key := l.at("marys"), "key-of-mary"
		id := "mary"
		return d.Add(Entry{ID: &id, APIKey: &key, DataDir: &dir})
	}))
	l.next(t)
	l.lead("will", "marys")
	for range 3 { // as a poll does it
		l.reloadIfChanged()
	}
	if l.Status().Successful() {
		t.Error("the file is in force")
	}
	l.wantAt("will", "a")
	l.wantAt("mary", "marys")
	l.check(os.Mkdir(l.at("c"), 0o700))
	l.lead("will", "c")
	l.next(t)
	l.wantAt("will", "c")
	if n := strings.Count(l.log.String(), "is the directory of"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, l.log)
	}
}
