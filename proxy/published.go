package proxy

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/reader"
)

// servePublished answers a request of the published API: read, write, list, search, and
// delete with the coordinate in the path. They are reads and writes like SQ's own; only
// how the result is said is different. An error is returned only while nothing was
// written to w.
func (g *Gateway) servePublished(w http.ResponseWriter, r *http.Request, dir *datadir.Dir, call *rewrite.Call) error {
	switch {
	case call.Op == rewrite.Select:
		return g.readPublished(w, r, dir, call)
	case call.Op.Mutates():
		return g.writePublished(w, r, call)
	}
	return g.read(w, r, dir, call)
}

// readPublished answers with the text of a scroll, or with an object. An empty scroll
// is none.
func (g *Gateway) readPublished(w http.ResponseWriter, r *http.Request, dir *datadir.Dir, call *rewrite.Call) error {
	asObject := call.Published.AsObject || wantsJSONAlone(r.Header.Get("Accept"))
	answer, err := g.Reader.Read(r.Context(), dir, call, false)
	if e := apierror.From(err); err != nil && (e == nil || e.Kind != apierror.NotFound) {
		return err
	}
	if err == nil {
		defer answer.Release()
	}
	if err := g.allows(r, call); err != nil {
		return err
	}
	switch {
	case asObject:
		return g.writeObject(r.Context(), w, dir, answer.Text, call)
	case answer.Text == "":
		return noScroll(call)
	}
	g.writeAnswer(w, r, call, answer)
	return nil
}

// noScroll is the error for a coordinate without a scroll. A name that is not formed as
// names are meant to be is good only where there is a scroll under it, from SQ's own
// operations.
func noScroll(call *rewrite.Call) error {
	if e := rewrite.CheckName(call.Name); e != nil {
		return e
	}
	return errNoScroll(call.Published.Coordinate)
}

// writeObject answers with a text as an object. The answer is counted until it is
// sent, as a text is.
func (g *Gateway) writeObject(ctx context.Context, w http.ResponseWriter, dir *datadir.Dir, text string, call *rewrite.Call) error {
	coordinate, pace := call.Published.Coordinate, call.Pace
	size := len(`{"content":,"coordinate":,"exists":false}`+"\n") + phext.QuotedLen(text, pace) + phext.QuotedLen(coordinate, pace)
	release, ok := reader.Send(ctx, dir, call.Recipient, new(byte), int64(size))
	if !ok {
		return datadir.ErrBusy
	}
	defer release()
	out := phext.Builder{Pace: pace}
	out.Grow(size)
	out.WriteString(`{"content":`)
	phext.WriteQuoted(&out, text)
	out.WriteString(`,"coordinate":`)
	phext.WriteQuoted(&out, coordinate)
	out.WriteString(`,"exists":` + strconv.FormatBool(text != "") + "}\n")
	w.Header().Set("Content-Type", apierror.JSON)
	g.writeText(w, out.String())
	return nil
}

// writeJSON is writeBody for a value that has a JSON form.
func (g *Gateway) writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only strings, numbers and booleans are written
	}
	w.Header().Set("Content-Type", apierror.JSON)
	g.writeBody(w, append(b, '\n'))
}

// writePublished commits write or delete. What SQ says of a delete tells whether there
// was a scroll, also if the answer is repeated for an Idempotency-Key.
func (g *Gateway) writePublished(w http.ResponseWriter, r *http.Request, call *rewrite.Call) error {
	result, err := g.commit(w, r, call)
	if err != nil {
		return err
	}
	if call.Op == rewrite.Delete {
		removed := string(result.Body) != "Removed 0 bytes"
		if e := rewrite.CheckName(call.Name); e != nil && !removed {
			return e
		}
		g.writeJSON(w, struct {
			Status     string `json:"status"`
			Coordinate string `json:"coordinate"`
			Deleted    bool   `json:"deleted"`
		}{"ok", call.Published.Coordinate, removed})
		return nil
	}
	g.writeJSON(w, struct {
		Status       string `json:"status"`
		OK           bool   `json:"ok"`
		Coordinate   string `json:"coordinate"`
		BytesWritten int    `json:"bytes_written"`
		Bytes        int    `json:"bytes"`
		Timestamp    string `json:"timestamp"`
	}{"ok", true, call.Published.Coordinate, len(call.Scroll), len(call.Scroll), g.now().UTC().Format(time.RFC3339)})
	return nil
}

// wantsJSONAlone says whether Accept asks for JSON and takes no text: clients that take
// anything, such as axios, read the answer as text.
func wantsJSONAlone(accept string) bool {
	accept = strings.ToLower(accept)
	return strings.Contains(accept, apierror.JSON) && !strings.Contains(accept, "text/") && !strings.Contains(accept, "*/*")
}
