package apierror

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestWritePublished(t *testing.T) {
	found := func(e *Error) string {
		w := httptest.NewRecorder()
		WritePublished(w, e)
		return strings.TrimSuffix(w.Body.String(), "\n") + w.Header().Get("Retry-After") + w.Header().Get("Allow") + " " + w.Header().Get("Content-Type")
	}
	notThere := New(NotFound, "gone")
	notThere.Coordinate = `a."b"`
	wrong := New(WrongMethod, "no")
	wrong.Allow = []string{"GET", "HEAD"}
	for _, test := range []struct {
		e    *Error
		want string
	}{
		{notThere, `{"error":"gone","code":"NOT_FOUND","coordinate":"a.\"b\"","details":{}}`},
		{New(BadCoordinate, "bad"), `{"error":"bad","code":"INVALID_COORDINATE","details":{"field":"coordinate"}}`},
		{New(TooLarge, "large"), `{"error":"large","code":"CONTENT_TOO_LARGE","details":{}}`},
		{New(BackendFailed, "x"), `{"error":"x","code":"SERVER_ERROR","details":{}}`},
		{New(BackendTimeout, "x"), `{"error":"x","code":"SERVER_ERROR","details":{}}`},
		{New(NotKnown, "x"), `{"error":"x","code":"SERVER_ERROR","details":{}}`},
		{New(Unauthorized, "x"), `{"error":"x","code":"UNAUTHORIZED","details":{}}`},
		{RetryIn(1500*time.Millisecond, RateLimited, "x"), `{"error":"x","code":"RATE_LIMIT_EXCEEDED","details":{}}2`},
		{wrong, `{"error":"no","code":"METHOD_NOT_ALLOWED","details":{}}GET, HEAD`},
	} {
		if got := found(test.e); got != test.want+" application/json" {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
}

// TestWriteText has an error in SQ's words.
func TestWriteText(t *testing.T) {
	w := httptest.NewRecorder()
	Write(w, &Error{Kind: BadRequest, Message: "Bad Request: <no>", Text: true})
	if w.Code != 400 || w.Body.String() != "Bad Request: <no>" || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
	}
}
