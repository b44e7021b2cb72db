package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/s3test"
)

// TestBucketInit puts a serving host into a bucket, and has its machine vanish after the
// next start, in which nobody asks for one of the tenants.
func TestBucketInit(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) { testBucketInit(t, sq, "file://"+t.TempDir()) })
}

// TestBucketInitOnS3 has the same with a real S3 server, whose key the command has and
// the serving host does not.
func TestBucketInitOnS3(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	testBucketInit(t, cmp.Or(realSQ(), builtin), server.URL)
}

func testBucketInit(t *testing.T, sq, bucket string) {
	g := newGate(t, sq, "will", "emi", "empty", "off")
	g.set("off", "enabled", true)
	g.writeFile()
	withBucket := []string{"--bucket", bucket}
	g.env = []string{"AWS_ACCESS_KEY_ID="}
	g.start()
	for _, id := range []string{"will", "emi", "off"} {
		for i := range 3 {
			g.must(id, "POST", at("update", fmt.Sprint("n", i), origin), "before of "+id, 200)
		}
	}
	g.set("off", "enabled", false)
	g.writeFile()
	if out, status := g.bucket("status"); status != 0 || !strings.Contains(out, "without --bucket") {
		t.Errorf("no bucket: %d %s", status, out)
	}

	g.stop()
	args := []string{"serve", "--config", g.configPath(), "--sq", sq, "--listen", "127.0.0.1:0", "--state-dir", filepath.Join(g.dir, "state")}
	if out, status := sqgateOutput(t, nil, append(args, withBucket...)...); status != 2 || !strings.Contains(out, "sqgate bucket init") {
		t.Fatalf("a bucket that knows nothing: %d %s", status, out)
	}
	g.start()

	if out, status := g.bucket("init", "--bucket", bucket); status != 0 || !strings.Contains(out, "9 phexts of 4 directories are in the bucket.\nNow set SQGATE_BUCKET='"+bucket+"'") {
		t.Fatalf("%d %s", status, out)
	}
	audit, err := os.ReadFile(filepath.Join(g.dir, "state", "audit.log"))
	if err != nil || !strings.Contains(string(audit), "bucket-init") || strings.Contains(string(audit)+g.log.String(), s3test.Secret) {
		t.Errorf("the audit log lacks the call, or it or the log has the key: %v\n%s", err, audit)
	}
	g.must("will", "POST", at("update", "n1", origin), "after of will", 200)
	out, status := g.bucket("init", "--bucket", bucket, "--json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if want := `{"directories":4,"done":4,"phexts":9,"bytes":0,"finished":true}`; status != 0 || lines[len(lines)-1] != want {
		t.Fatalf("repeated: %d %s, want %s", status, out, want)
	}
	g.must("emi", "POST", at("update", "n2", origin), "after of emi", 200)
	g.stop()

	if out, status := g.bucket("init", "--bucket", bucket, "--state-dir", "/nowhere"); strings.HasPrefix(bucket, "s3:") && g.inOwnNetwork() && status == 0 {
		t.Errorf("S3 was reached from a network of its own: %s", out)
	}
	g.args, g.env = withBucket, nil
	g.start()
	g.must("will", "POST", at("update", "n2", origin), "with the bucket", 200)
	eventually(t, "what was written meanwhile is taken over", func() bool { return len(g.bucketStatus().Directories) == 3 })
	status1 := g.bucketStatus()
	if d := status1.Directories[2]; d.Name != "will" || d.Position < 3 || status1.Requests["put"] < 4 || status1.Bucket != bucket || !status1.Lease {
		t.Errorf("%+v", status1)
	}
	if out, status := g.bucket("status", "--sizes"); status != 0 || !regexp.MustCompile(`(?s)lease +held\n.*requests +\d+ puts, .*\nfiles +\d+ objects.*\nwill +2 +\d+ +\d+ +0.0\n`).MatchString(out) {
		t.Errorf("%d %s", status, out)
	}
	if out, status := g.bucket("init", "--bucket", bucket); status != 1 || !strings.Contains(out, "was started with a bucket") {
		t.Errorf("with a bucket: %d %s", status, out)
	}
	g.kill()
	g.wipe()
	g.start()
	for target, want := range map[string]string{"will/n0": "before of will", "will/n1": "after of will", "will/n2": "with the bucket", "emi/n0": "before of emi", "emi/n2": "after of emi"} {
		id, phext, _ := strings.Cut(target, "/")
		eventually(t, "the directory is taken over", func() bool {
			r, err := g.do(id, "GET", at("select", phext, origin), "")
			return err == nil && r.status == 200 && r.body == want
		})
	}
	g.set("off", "enabled", true)
	g.writeFile()
	eventually(t, "the disabled tenant's phexts are there, too", func() bool {
		r, err := g.do("off", "GET", at("select", "n0", origin), "")
		return err == nil && r.body == "before of off"
	})
}

// bucket runs a command about the gate's bucket.
func (g *gate) bucket(args ...string) (string, int) {
	g.t.Helper()
	return sqgateOutput(g.t, []string{"SQ_ADMIN_KEY=" + adminKey, "SQGATE_URL=" + g.url, "SQGATE_STATE_DIR=" + filepath.Join(g.dir, "state")}, append([]string{"bucket"}, args...)...)
}

// inOwnNetwork says whether the gate could make one.
func (g *gate) inOwnNetwork() bool { return !strings.Contains(g.log.String(), shared) }

type bucketStatus struct {
	Bucket      string
	Lease       bool
	Requests    map[string]int64
	Behind      float64 `json:"behind_seconds"`
	Directories []struct {
		Name     string
		Position int
	}
}

func (g *gate) bucketStatus() (s bucketStatus) {
	g.t.Helper()
	r := g.manageRaw(adminKey, "GET", "bucket", "")
	if err := json.Unmarshal([]byte(r.body), &s); err != nil || r.status != 200 {
		g.t.Fatalf("%d %s: %v", r.status, r.body, err)
	}
	return s
}

// TestBucketInitThatCannotBe is refused before it changes anything.
func TestBucketInitThatCannotBe(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	g.must("will", "POST", at("update", "n", origin), "text", 200)
	for url, want := range map[string]string{
		"":                      "--bucket is missing",
		"file:///no/such/place": "no such file or directory",
		"gs://x":                "is neither s3://NAME/PREFIX",
	} {
		if out, status := g.bucket("init", "--bucket", url); status == 0 || !strings.Contains(out, want) {
			t.Errorf("%s: %d %s", url, status, out)
		}
	}
	if _, err := os.Stat(filepath.Join(g.dir, "state", "bucket")); err == nil {
		t.Error("it has marked something")
	}
}

// TestCheckTriesTheBucket as serve would use it.
func TestCheckTriesTheBucket(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will")
	for dir, want := range map[string]struct {
		status int
		says   string
	}{
		t.TempDir():      {0, "the bucket: can be written and read, and honours conditions\n"},
		"/no/such/place": {2, "sqgate: --bucket: the bucket's directory: open /no/such/place: no such file or directory\n"},
	} {
		out, status := sqgateOutput(t, []string{"SQGATE_BUCKET=file://" + dir}, "check", "--config", g.configPath())
		if status != want.status || !strings.HasSuffix(out, want.says) {
			t.Errorf("%s: %d %q, want %d %q", dir, status, out, want.status, want.says)
		}
	}
}

// TestADirectoryThatTheBucketDoesNotKnow is named by check, by the log and by the status, and
// keeps nobody else from being served.
func TestADirectoryThatTheBucketDoesNotKnow(t *testing.T) {
	t.Parallel()
	g, bucket := startWithBucket(t, builtin, "will", "emi")
	g.must("will", "POST", at("update", "n", origin), "will", 200)
	g.stop()
	unknown := g.dataDir("emi")
	if err := os.MkdirAll(unknown, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(unknown, "n.phext"), []byte("emi"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, status := sqgateOutput(t, []string{"SQGATE_BUCKET=file://" + bucket}, "check", "--config", g.configPath(), "--state-dir", filepath.Join(g.dir, "state"))
	if want := "- " + unknown + " is not served: "; status != 0 || !strings.Contains(out, want) || strings.Contains(out, g.dataDir("will")+" is not") {
		t.Errorf("%d %q, want %q", status, out, want)
	}
	g.start()
	g.awaitOwner("will")
	if got := g.get("will", at("select", "n", origin)); got != "will" {
		t.Errorf("%q", got)
	}
	if r, err := g.do("emi", "GET", at("select", "n", origin), ""); err != nil || r.status != 503 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, path := range []string{"tenants/emi/stats", "tenants"} {
		if said := g.managed("GET", path, "", 200).body; strings.Count(said, "sqgate bucket init") != 1 {
			t.Error(said)
		}
	}
	if log := g.log.String(); !strings.Contains(log, "a directory is not served, because it is not what the bucket has") {
		t.Error(log)
	}
}

// TestADamagedMark keeps one directory from being served, with the bucket and without, and is
// named by the log and by the status, which say what to do.
func TestADamagedMark(t *testing.T) {
	t.Parallel()
	g, _ := startWithBucket(t, cmp.Or(realSQ(), builtin), "will", "emi")
	for _, tenant := range []string{"will", "emi"} {
		g.must(tenant, "POST", at("update", "n", origin), tenant, 200)
	}
	g.stop()
	mark := filepath.Join(g.dir, "state", "bucket", "emi")
	if err := os.Truncate(mark, 10); err != nil {
		t.Fatal(err)
	}
	with := g.args
	for _, g.args = range [][]string{with, nil} {
		g.start()
		eventually(t, "the other tenant is served", func() bool {
			r, err := g.do("will", "GET", at("select", "n", origin), "")
			return err == nil && r.status == 200 && r.body == "will"
		})
		if r, err := g.do("emi", "GET", at("select", "n", origin), ""); err != nil || r.status != 503 {
			t.Errorf("%v: %+v, %v", g.args, r, err)
		}
		said, log := g.managed("GET", "tenants/emi/stats", "", 200).body, g.log.String()
		if !strings.Contains(said, mark+" is damaged") || !strings.Contains(log, mark+" is damaged") || !strings.Contains(said, "move that file away") {
			t.Errorf("%v: %s\n%s", g.args, said, log)
		}
		g.stop()
	}
	g.start()
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	if got := g.get("emi", at("select", "n", origin)); got != "emi" {
		t.Errorf("%q", got)
	}
}

// TestTwoDirectoriesOfOneNameInTheBucket are refused in the tenants file. If both are there at
// a start, the one that was served before is.
func TestTwoDirectoriesOfOneNameInTheBucket(t *testing.T) {
	t.Parallel()
	g := newGate(t, cmp.Or(realSQ(), builtin), "will", "emi")
	g.args = []string{"--bucket", "file://" + t.TempDir()}
	share := func(id, parent string) {
		g.set(id, "shared_data_dir", true)
		g.set(id, "data_dir", filepath.Join(g.dir, "data", parent, "sh"))
		g.writeFile()
	}
	share("will", "x")
	share("emi", "x")
	g.start()
	g.awaitOwner("will")
	for _, id := range []string{"will", "emi"} {
		g.must(id, "POST", at("update", "n", origin), id, 200)
	}
	g.addTenant("late")
	share("late", "y")
	if said := g.managed("POST", "reload", "", 409).body; !strings.Contains(said, "the same name in the bucket") {
		t.Error(said)
	}
	if said := g.managed("PATCH", "tenants/will", `{"quota_mb": 7}`, 409).body; !strings.Contains(said, "the same name in the bucket") {
		t.Error(said)
	}
	if r, err := g.do("late", "GET", at("select", "n", origin), ""); err != nil || r.status != 401 {
		t.Errorf("%+v, %v", r, err)
	}
	g.stop()
	g.start()
	for _, id := range []string{"will", "emi"} {
		g.awaitOwner(id)
		if got := g.get(id, at("select", "n", origin)); got != id {
			t.Errorf("%q", got)
		}
	}
	if r, err := g.do("late", "GET", at("select", "n", origin), ""); err != nil || r.status != 503 {
		t.Errorf("%+v, %v", r, err)
	}
	if said := g.managed("GET", "tenants/late", "", 200).body; !strings.Contains(said, "the same name in the bucket") {
		t.Error(said)
	}
	g.managed("PATCH", "tenants/will", `{"quota_mb": 7}`, 200)
	share("late", "x")
	g.managed("POST", "reload", "", 200)
	g.must("late", "POST", at("update", "n", origin), "late", 200)
}
