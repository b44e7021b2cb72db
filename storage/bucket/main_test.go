package bucket

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/s3test"
	"mirrorborn.us/sqgate/internal/testtmp"
)

func TestMain(m *testing.M) {
	testtmp.InMemory()
	if dir := os.Getenv("SQTEST_BUCKET_WRITER"); dir != "" {
		writeUntilKilled(dir)
	}
	// Idle connections to a server of a test end after 90 s.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// stores has each implementation, empty.
func stores(t *testing.T, run func(t *testing.T, b Bucket)) {
	t.Run("memory", func(t *testing.T) { run(t, NewMemory()) })
	t.Run("directory", func(t *testing.T) {
		b, err := OpenDirectory(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		run(t, b)
	})
	t.Run("s3", func(t *testing.T) {
		b, err := Open(s3test.Start(t).URL, Options{})
		if err != nil {
			t.Fatal(err)
		}
		run(t, b)
	})
}
