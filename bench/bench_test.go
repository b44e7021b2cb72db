package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Every scroll must stand where the requests look for it.
func TestScrollsStandWhereTheyAreRead(t *testing.T) {
	const n = 2*perChapter + 3
	scrolls := scrollsOf(libraryBreak + textOf(n, strconv.Itoa))
	if len(scrolls) != n {
		t.Fatalf("%d scrolls", len(scrolls))
	}
	for i := range n {
		if text, want := scrolls["2"+at(i)[1:]], strconv.Itoa(i); text != want {
			t.Fatalf("at %s: %q, not %q", at(i), text, want)
		}
	}
}

// scrollsOf reads a phext, which has no breaks but those that textOf makes, as
// the format is defined: a break ends what is below it, and a coordinate counts
// the breaks.
func scrollsOf(text string) map[string]string {
	scrolls := map[string]string{}
	library, chapter, section, scroll := 1, 1, 1, 1
	for {
		end := strings.IndexAny(text, scrollBreak+sectionBreak+chapterBreak+libraryBreak)
		here := text
		if end >= 0 {
			here = text[:end]
		}
		if here != "" {
			scrolls[fmt.Sprintf("%d.1.1/1.1.1/%d.%d.%d", library, chapter, section, scroll)] = here
		}
		if end < 0 {
			return scrolls
		}
		switch text[end : end+1] {
		case scrollBreak:
			scroll++
		case sectionBreak:
			section, scroll = section+1, 1
		case chapterBreak:
			chapter, section, scroll = chapter+1, 1, 1
		case libraryBreak:
			library, chapter, section, scroll = library+1, 1, 1, 1
		}
		text = text[end+1:]
	}
}

func TestPhextsHaveTheModeOfSQsOwn(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	dir := filepath.Join(t.TempDir(), "data")
	if err := putPhext(dir, "notes", "x"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "notes.phext"): 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestReadAnswer(t *testing.T) {
	for text, want := range map[string]struct {
		status, size int
		last, ok     bool
	}{
		"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi":                        {200, 2, false, true},
		"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n":     {401, 0, true, true},
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi":                        {200, 3, false, false},
		"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n":                      {304, 0, false, true},
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n":                {304, 0, false, true},
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n": {0, 0, false, false},
	} {
		status, size, last, err := readAnswer(bufio.NewReader(strings.NewReader(text)))
		if (err == nil) != want.ok || want.ok && (status != want.status || size != want.size || last != want.last) {
			t.Errorf("%q: %d, %d, %v, %v", text, status, size, last, err)
		}
	}
}

func TestQuantilesAndSpread(t *testing.T) {
	times := []time.Duration{1, 2, 3, 4}
	if quantile(times, .5) != 3 || quantile(times, .99) != 4 || quantile(nil, .5) != 0 {
		t.Error("quantile")
	}
	if s := spreadOf([]float64{3, 1, 2}); s != (spread{2, 1, 3}) {
		t.Errorf("%+v", s)
	}
}

func TestTargetsSayWhatWasReached(t *testing.T) {
	var r report
	r.record("tenants", "500", 41<<20)
	r.record("wake-update", "sqgate", .014)
	text := r.targets()
	for _, want := range []string{"| under 40 MB | 41.0 MB | not met |", "| under 15 ms | 14 ms | met |", "| not measured | - |"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

// A store that is asked for what sqgate asks for: conditions hold, and lists are sorted.
func TestObjectStore(t *testing.T) {
	s := newObjectStore(0)
	defer s.Close()
	ask := func(method, path, header, value string, status int) (etag, body string) {
		t.Helper()
		r, err := http.NewRequest(method, s.URL+path, strings.NewReader("text of "+path))
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			r.Header.Set(header, value)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != status {
			t.Fatalf("%s %s: %d %v", method, path, answer.StatusCode, err)
		}
		return answer.Header.Get("ETag"), string(text)
	}
	ask("GET", "/bench/dirs/b", "", "", 404)
	etag, _ := ask("PUT", "/bench/dirs/b", "If-None-Match", "*", 200)
	ask("PUT", "/bench/dirs/b", "If-None-Match", "*", 412)
	ask("PUT", "/bench/dirs/b", "If-Match", `"0"`, 412)
	ask("PUT", "/bench/dirs/b", "If-Match", etag, 200)
	ask("PUT", "/bench/dirs/a", "If-Match", etag, 412)
	ask("PUT", "/bench/dirs/a", "", "", 200)
	if _, body := ask("GET", "/bench/dirs/b", "", "", 200); body != "text of /bench/dirs/b" {
		t.Error(body)
	}
	_, list := ask("GET", "/bench/?list-type=2&prefix=dirs/", "", "", 200)
	if a, b := strings.Index(list, "<Key>dirs/a<"), strings.Index(list, "<Key>dirs/b<"); a < 0 || b < a {
		t.Error(list)
	}
	ask("DELETE", "/bench/dirs/a", "", "", 204)
	ask("GET", "/bench/dirs/a", "", "", 404)
	if requests, bytes := s.spent(); requests == 0 || bytes == 0 {
		t.Error(requests, bytes)
	}
}
