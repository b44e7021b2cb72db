package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestADataDirThatIsALink has the link lead elsewhere while its tenant is served: what is
// written later is where it leads then, without a restart.
func TestADataDirThatIsALink(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "mary")
		link, from, to := g.dataDir("will"), filepath.Join(g.dir, "from"), filepath.Join(g.dir, "to")
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		lead := func(to string) {
			t.Helper()
			check(os.Symlink(to, link+"~"))
			check(os.Rename(link+"~", link))
		}
		check(os.MkdirAll(filepath.Dir(link), 0o700))
		check(os.Mkdir(from, 0o700))
		lead(from)
		g.start()
		g.must("will", "POST", at("update", "n", "1.1.1/1.1.1/1.1.1"), "one", 200)

		check(exec.Command("cp", "-a", from, to).Run())
		lead(to)
		served := func(dir, text string) {
			t.Helper()
			eventually(t, "it is served from "+dir, func() bool {
				r, err := g.do("will", "POST", at("update", "n", "1.1.1/1.1.1/1.1.2"), text)
				check(err)
				got, err := os.ReadFile(filepath.Join(dir, "n.phext"))
				return r.status == 200 && err == nil && string(got) == "one\x17"+text
			})
		}
		served(to, "two")
		eventually(t, "the child of the directory before is stopped", func() bool { return len(childrenOf(from)) == 0 })
		check(os.RemoveAll(from))
		g.must("will", "POST", at("update", "n", "1.1.1/1.1.1/1.1.2"), "three", 200)

		// The link is away for a moment: the tenant is where it was.
		check(os.Remove(link))
		g.manage("POST", "reload", "", 200)
		if got := g.get("will", at("select", "n", "1.1.1/1.1.1/1.1.2")); got != "three" {
			t.Errorf("without the link, it reads %q", got)
		}

		// The directory takes the place of the link, and a link that of the directory.
		check(os.Rename(to, link))
		served(link, "four")
		check(os.Rename(link, to))
		check(os.Symlink(to, link))
		g.manage("POST", "reload", "", 200)
		served(to, "five")
		g.stop()
		g.start()
		if got := g.get("will", "/api/v2/get?p=n"); got != "one\x17five" {
			t.Errorf("after a restart, it reads %q", got)
		}
		if told := g.manage("GET", "tenants/will", "", 200)["data_dir"]; told != link {
			t.Errorf("the operator is told %v", told)
		}

		// The link is away at a start, as with the disk that has it.
		g.stop()
		check(os.Rename(link, link+"~"))
		g.start()
		g.must("will", "GET", at("select", "n", origin), "", 503)
		g.must("will", "POST", at("update", "n", origin), "text", 503)
		check(os.Rename(link+"~", link))
		eventually(t, "it is served again", func() bool {
			r, err := g.do("will", "GET", "/api/v2/get?p=n", "")
			check(err)
			return r.status == 200 && r.body == "one\x17five"
		})
	})
}
