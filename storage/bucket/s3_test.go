package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeS3 returns a bucket of a server that answers as h says.
func fakeS3(t *testing.T, h http.HandlerFunc) Bucket {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "key-id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
	b, err := Open("s3://tests?region=r&endpoint="+server.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestServerThatIgnoresConditions has servers that keep objects, and take no
// notice of one condition or the other.
func TestServerThatIgnoresConditions(t *testing.T) {
	for _, honoured := range []string{"", "If-None-Match", "If-Match"} {
		t.Run("but "+honoured, func(t *testing.T) {
			objects := map[string]string{}
			b := fakeS3(t, func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				old, there := objects[r.URL.Path]
				etag := func(s string) string { return `"` + etagOf([]byte(s)) + `"` }
				switch {
				case err != nil:
					t.Error(err)
				case r.Method == http.MethodDelete:
					delete(objects, r.URL.Path)
					w.WriteHeader(http.StatusNoContent)
				case r.Method == http.MethodGet:
					w.Header().Set("ETag", etag(old))
					w.Header().Set("Last-Modified", "Sat, 28 Nov 2026 12:00:00 GMT")
					_, _ = io.WriteString(w, old)
				case honoured == "If-None-Match" && r.Header.Get(honoured) == "*" && there,
					honoured == "If-Match" && r.Header.Get(honoured) != "" && r.Header.Get(honoured) != etag(old):
					w.WriteHeader(http.StatusPreconditionFailed)
				default:
					objects[r.URL.Path] = string(body)
					w.Header().Set("ETag", etag(string(body)))
				}
			})
			err := Probe(t.Context(), b)
			if !errors.Is(err, ErrIgnoresConditions) || !strings.Contains(err.Error(), "use a server that honours them") {
				t.Error(err)
			}
			if len(objects) > 0 {
				t.Errorf("left of the probe: %v", objects)
			}
		})
	}
}

// TestAnswers has each answer of a server, and what a write and a read make of it.
// A write is sent once, whatever the answer is.
func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int // 0 = the connection breaks
		code   string
		put    error
		get    error
	}{
		{"refused", 412, "PreconditionFailed", ErrPreconditionFailed, ErrPreconditionFailed},
		{"not there", 404, "NoSuchKey", ErrPreconditionFailed, ErrNotFound},
		{"at the same time", 409, "ConditionalRequestConflict", ErrTemporary, ErrTemporary},
		{"too many", 429, "TooManyRequests", ErrTemporary, ErrTemporary},
		{"slow down", 503, "SlowDown", ErrUnknownOutcome, ErrTemporary},
		{"broken", 500, "InternalError", ErrUnknownOutcome, ErrTemporary},
		{"gateway", 502, "", ErrUnknownOutcome, ErrTemporary},
		{"lost", 0, "", ErrUnknownOutcome, ErrTemporary},
	} {
		t.Run(test.name, func(t *testing.T) {
			var requests atomic.Int32
			b := fakeS3(t, func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					t.Error(err)
				}
				if test.status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(test.status)
				if test.code != "" {
					fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", test.code)
				}
			})
			_, err := b.Put(t.Context(), "a", []byte("text"), IfMatch("e"))
			if !errors.Is(err, test.put) || requests.Load() != 1 {
				t.Errorf("a write of %d requests: %v, want %v", requests.Load(), err, test.put)
			}
			_, errGet := b.Get(t.Context(), "a", "")
			_, _, errList := b.List(t.Context(), "a", "", 10)
			for _, err := range []error{errGet, errList} {
				if !errors.Is(err, test.get) {
					t.Errorf("a read: %v, want %v", err, test.get)
				}
			}
			if err := b.Delete(t.Context(), "a"); test.status == 404 && err != nil || ShouldRetry(test.put) && !errors.Is(err, test.put) {
				t.Errorf("a removal: %v", err)
			}
		})
	}
	b := fakeS3(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	if _, err := b.Put(t.Context(), "a", nil, Condition{}); err == nil || ShouldRetry(err) || errors.Is(err, ErrPreconditionFailed) {
		t.Error(err)
	}
	b = fakeS3(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<Error><Code>NoSuchBucket</Code></Error>")
	})
	if _, err := b.Get(t.Context(), "a", ""); errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `no bucket "tests"`) {
		t.Error("a bucket that does not exist:", err)
	}
}

func TestServerThatCannotBeReached(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key-id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
	server := httptest.NewServer(nil)
	server.Close()
	b, err := Open("s3://tests?endpoint="+server.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), "a", nil, IfAbsent()); !errors.Is(err, ErrTemporary) || errors.Is(err, ErrUnknownOutcome) {
		t.Error("nothing can have been written:", err)
	}
}

// TestTimeout has a server that never answers, and one that cannot be reached.
func TestTimeout(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key-id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
	put := func(t *testing.T, want error, after time.Duration, dial func(ctx context.Context) (net.Conn, error)) {
		b, err := Open("s3://tests?endpoint=http://s3.test", Options{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := b.Put(t.Context(), "a", make([]byte, 10*slowest), IfAbsent()); !errors.Is(err, want) {
			t.Error(err)
		}
		if took := time.Since(begun).Truncate(time.Second); took != after {
			t.Error(took)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		put(t, ErrUnknownOutcome, requestTimeout+10*time.Second, func(context.Context) (net.Conn, error) {
			client, server := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, server) }() // until the client closes it
			return client, nil
		})
	})
	synctest.Test(t, func(t *testing.T) {
		put(t, ErrTemporary, requestTimeout, func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
}

// TestBodyThatEndsEarly sees that half an object is never taken for a whole one.
func TestBodyThatEndsEarly(t *testing.T) {
	b := fakeS3(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.Header().Set("Last-Modified", "Sat, 28 Nov 2026 12:00:00 GMT")
		_, _ = io.WriteString(w, "only this")
	})
	if o, err := b.Get(t.Context(), "a", ""); !errors.Is(err, ErrTemporary) {
		t.Errorf("%q %v", o.Body, err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("bucket", "[default]\naws_access_key_id = id\naws_secret_access_key = the-secret\n")
	half := write("half", "[default]\naws_secret_access_key = the-secret\n")
	other := write("other", "the-secret and nothing else")
	for _, test := range []struct {
		name, url, file, id, credentials string
		ok                               bool
	}{
		{"variables", "s3://tests", "", "id", "", true},
		{"a file", "s3://tests/a/b?endpoint=https://r2.test&region=auto", good, "", "", true},
		{"a systemd credential", "s3://tests", "", "", dir, true},
		{"a directory", "file://" + dir, "", "", "", true},
		{"no credentials", "s3://tests", "", "", "", false},
		{"half of them", "s3://tests", half, "", "", false},
		{"a file with something else", "s3://tests", other, "", "", false},
		{"no such file", "s3://tests", dir + "/none", "id", "", false},
		{"in the URL", "s3://id:the-secret@tests", "", "id", "", false},
		{"an unreadable URL", "s3://id:the-secret@te sts", "", "id", "", false},
		{"in the endpoint", "s3://tests?endpoint=http://id:the-secret@h", "", "id", "", false},
		{"no scheme", "tests", "", "id", "", false},
		{"another scheme", "gs://tests", "", "id", "", false},
		{"a relative directory", "file://tests", "", "", "", false},
		{"an endpoint without a scheme", "s3://tests?endpoint=h:9000", "", "id", "", false},
		{"an endpoint with a path", "s3://tests?endpoint=http://h/p", "", "id", "", false},
		{"an unknown parameter", "s3://tests?end=http://h", "", "id", "", false},
		{"a parameter twice", "s3://tests?region=a&region=b", "", "id", "", false},
		{"a name that is none", "s3://T_", "", "id", "", false},
		{"a prefix that is none", "s3://tests/a//b", "", "id", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("AWS_ACCESS_KEY_ID", test.id)
			t.Setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
			t.Setenv("CREDENTIALS_DIRECTORY", test.credentials)
			b, err := Open(test.url, Options{CredentialsFile: test.file})
			if (err == nil) != test.ok {
				t.Fatal(err)
			}
			if err != nil && strings.Contains(err.Error(), "the-secret") {
				t.Error("the error has the secret:", err)
			}
			var log bytes.Buffer
			slog.New(slog.NewTextHandler(&log, nil)).Info("opened", "bucket", b)
			if strings.Contains(log.String()+fmt.Sprintf("%v %+v", b, b), "the-secret") {
				t.Error("the bucket shows the secret when it is logged")
			}
		})
	}
}
