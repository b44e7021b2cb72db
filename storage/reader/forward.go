package reader

import (
	"io"
	"net/http"
	"strings"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/sqclient"
	"mirrorborn.us/sqgate/tenants"
)

// Forwards says whether SQ answers the call: where no memory is set aside for
// reads, and SQ gets it right. toc breaks 0.5.3 for good on some texts,
// json-export leaves a file behind and is not JSON, delta puts scrolls at wrong
// coordinates while SQ has an empty one in memory (LEGACY.md), older releases have no
// query, status counts the requests of all who share the child, and of names and of keys
// for some scrolls SQ knows nothing.
func (r *Reader) Forwards(call *rewrite.Call) bool {
	switch call.Op {
	case rewrite.Toc, rewrite.JSONExport, rewrite.Delta, rewrite.Query, rewrite.Status:
		return false
	}
	return r.Dirs.ReadMemory == 0 && call.Name == "" && call.ShowsAll()
}

// Forward is an http.RoundTripper that has SQ answer one call. The answer is
// whole and in memory when RoundTrip returns, and SQ is free for the next.
type Forward struct {
	Reader *Reader
	Dir    *datadir.Dir
	Tenant *tenants.Tenant
	Call   *rewrite.Call
}

// RoundTrip waits until the tenant may have SQ read, and sends r. A phext
// without a file is answered from here, since SQ would make an empty file of it.
func (f *Forward) RoundTrip(r *http.Request) (*http.Response, error) {
	unlock, err := f.Dir.LockForRead(r.Context(), f.Tenant, f.Call)
	if err != nil {
		return nil, err
	}
	defer unlock()
	path := f.Call.FilePath(f.Dir.Path)
	id, reload, err := f.Dir.CheckForSQ(path)
	if err != nil {
		return nil, err
	}
	if !id.Exists() {
		return f.missing(r), nil
	}
	reads := sqclient.Reads{Client: f.Reader.SQ, Dir: f.Dir.Path}
	if reload {
		reads.Reload = f.Call
	}
	f.Dir.NoteLoading()
	resp, err := reads.RoundTrip(r)
	if err == nil && reload {
		f.Dir.NoteSeen(path, id, false)
	}
	return resp, err
}

func (f *Forward) missing(r *http.Request) *http.Response {
	text := render(f.Reader.Dirs.MissingView(), f.Call)
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, ContentLength: int64(len(text)), Request: r, Body: io.NopCloser(strings.NewReader(text)),
	}
}
