package main

import (
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// objectStore speaks as much S3 as sqgate needs. Each request takes the same time. It is a
// part of the bench, since a real server would take a part of the two cores away and a time
// of its own for each request, and this is to show what sqgate makes of a latency.
type objectStore struct {
	*httptest.Server
	latency time.Duration

	mu       sync.Mutex
	objects  map[string]storedObject // by path
	requests int                     // for phexts, without heartbeats
	bytes    int                     // of their bodies
}

type storedObject struct {
	body     []byte
	modified time.Time
}

func (o storedObject) etag() string { return fmt.Sprintf("\"%x\"", sha256.Sum256(o.body))[:34] + "\"" }

// storeKey is what sqgate needs to have, and the store never asks for.
const storeKey = "bench"

func newObjectStore(latency time.Duration) *objectStore {
	s := &objectStore{latency: latency, objects: map[string]storedObject{}}
	s.Server = httptest.NewServer(s)
	return s
}

// url is the store for --bucket.
func (s *objectStore) url() string { return "s3://bench/sqgate?endpoint=" + s.URL }

// spent returns the requests for phexts since the last time, and the bytes sent with them.
func (s *objectStore) spent() (requests, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests, bytes = s.requests, s.bytes
	s.requests, s.bytes = 0, 0
	return requests, bytes
}

// ServeHTTP is a method of http.Handler.
func (s *objectStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has left
	}
	time.Sleep(s.latency)
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(r.URL.Path+r.URL.Query().Get("prefix"), "/dirs/") {
		s.requests++
		s.bytes += len(body)
	}
	path := r.URL.Path
	now, there := s.objects[path]
	switch {
	case r.Method == http.MethodPut && !allowed(r.Header, now, there):
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
	case r.Method == http.MethodPut:
		o := storedObject{body, time.Now()}
		s.objects[path] = o
		w.Header().Set("ETag", o.etag())
	case r.Method == http.MethodDelete:
		delete(s.objects, path)
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Query().Get("list-type") != "":
		s.list(w, r)
	case !there:
		refuse(w, http.StatusNotFound, "NoSuchKey")
	default:
		w.Header().Set("ETag", now.etag())
		w.Header().Set("Last-Modified", now.modified.UTC().Format(http.TimeFormat))
		_, _ = w.Write(now.body) // the client may have left
	}
}

// allowed says whether the condition of a PUT holds.
func allowed(h http.Header, now storedObject, there bool) bool {
	if h.Get("If-None-Match") == "*" && there {
		return false
	}
	etag := h.Get("If-Match")
	return etag == "" || there && strings.Trim(etag, `"`) == strings.Trim(now.etag(), `"`)
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
}

// list answers with all objects of a prefix.
func (s *objectStore) list(w http.ResponseWriter, r *http.Request) {
	type contents struct {
		Key, LastModified, ETag string
		Size                    int
	}
	var page struct {
		XMLName     xml.Name `xml:"ListBucketResult"`
		IsTruncated bool
		Contents    []contents
	}
	root, q := strings.TrimSuffix(r.URL.Path, "/")+"/", r.URL.Query()
	for path, o := range s.objects {
		key := strings.TrimPrefix(path, root)
		if strings.HasPrefix(key, q.Get("prefix")) && key > q.Get("start-after") {
			page.Contents = append(page.Contents, contents{key, o.modified.UTC().Format(time.RFC3339), o.etag(), len(o.body)})
		}
	}
	slices.SortFunc(page.Contents, func(a, b contents) int { return strings.Compare(a.Key, b.Key) })
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(page) // the client may have left
}
