package http1

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

func (w *writer) appendHead(b []byte) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(w.status)...)
	b = append(b, "\r\nDate: "...)
	b = append(b, date()...)
	b = append(b, "\r\n"...)
	if w.c.server.closing.Load() {
		w.header["Connection"] = lastAnswer
	}
	for name, values := range w.header {
		for _, v := range values {
			b = append(b, name...)
			b = append(b, ": "...)
			b = appendValue(b, v)
			b = append(b, "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// lastAnswer tells a client that the server closes the connection after an answer.
var lastAnswer = []string{"close"}

// appendValue keeps a value within its line, whatever it holds.
func appendValue(b []byte, v string) []byte {
	from := len(b)
	b = append(b, v...)
	for i := from; i < len(b); i++ {
		if b[i] == '\r' || b[i] == '\n' {
			b[i] = ' '
		}
	}
	return b
}

// today is the date at one second, as HTTP writes it.
type today struct {
	second int64
	text   string
}

var lastDate atomic.Pointer[today]

// date is the value of the Date field. It is formatted once a second.
func date() string {
	now := time.Now()
	if d := lastDate.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &today{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}
