package apierror

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// JSON is the content type of every JSON answer.
const JSON = "application/json"

// Write answers with e: its status, its headers and {"error", "code"}, or its text.
func Write(w http.ResponseWriter, e *Error) {
	setHeaders(w, e)
	if e.Text {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(e.Status)
		_, _ = io.WriteString(w, e.Message) // the client may have gone; the access log has the count
		return
	}
	WriteJSON(w, e.Status, struct {
		Error     string `json:"error"`
		Code      string `json:"code"`
		Operation *int   `json:"operation,omitempty"`
	}{e.Message, e.Code, e.Operation})
}

// WriteEarly is Write for a request that is refused before proxy sees it, with the
// headers that proxy adds to its answers, and id as the X-Request-Id. It tells everybody
// the same, so pages of any origin may read it.
func WriteEarly(w http.ResponseWriter, id string, e *Error) {
	h := w.Header()
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Retry-After, X-Request-Id")
	Write(w, e)
}

// WritePublished is Write in the form of the published API, which has codes of its own
// and details.
func WritePublished(w http.ResponseWriter, e *Error) {
	setHeaders(w, e)
	details := map[string]string{}
	if e.Kind == BadCoordinate {
		details["field"] = "coordinate"
	}
	WriteJSON(w, e.Status, struct {
		Error      string            `json:"error"`
		Code       string            `json:"code"`
		Coordinate string            `json:"coordinate,omitempty"`
		Details    map[string]string `json:"details"`
	}{e.Message, publishedCode(e.Kind), e.Coordinate, details})
}

// publishedCode is the code that the published API's reference has for a kind, or
// otherwise Code in upper case.
func publishedCode(k Kind) string {
	switch k {
	case BadCoordinate:
		return "INVALID_COORDINATE"
	case TooLarge:
		return "CONTENT_TOO_LARGE"
	case RateLimited:
		return "RATE_LIMIT_EXCEEDED"
	case Internal, NotKnown, BackendFailed, BackendTimeout:
		return "SERVER_ERROR"
	}
	return strings.ToUpper(k.Code)
}

func setHeaders(w http.ResponseWriter, e *Error) {
	h := w.Header()
	if e.Allow != nil {
		h.Set("Allow", strings.Join(e.Allow, ", "))
	}
	if e.RetryAfter > 0 {
		SetRetryAfter(w, e.RetryAfter)
	}
}

// SetRetryAfter sets the header in whole seconds, rounded up.
func SetRetryAfter(w http.ResponseWriter, after time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
}

// WriteJSON answers with v and a line end.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "the answer could not be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", JSON)
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may have gone; the access log has the count
}
