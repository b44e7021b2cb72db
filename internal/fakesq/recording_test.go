package fakesq

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recording is a file of testdata.
type recording struct {
	SQ        string     `json:"sq"`
	Key       string     `json:"key"`
	DataDir   string     `json:"data_dir"`
	Scenarios []scenario `json:"scenarios"`
}

type scenario struct {
	Name  string            `json:"scenario"`
	Seed  map[string]octets `json:"seed"`
	Steps []step            `json:"steps"`
	Files map[string]octets `json:"files"`
}

type step struct {
	Method        string          `json:"method"`
	Target        string          `json:"target"`
	Authorization json.RawMessage `json:"authorization"`
	Headers       [][2]string     `json:"headers"`
	Body          *octets         `json:"body"`
	HTTP          string          `json:"http"`
	Answer        *recorded       `json:"answer"`
}

type recorded struct {
	Status  int         `json:"status"`
	Headers [][2]string `json:"headers"`
	Body    octets      `json:"body"`
}

// octets is {"text"} or {"base64"}.
type octets []byte

func (b *octets) UnmarshalJSON(in []byte) error {
	var v struct {
		Text   *string `json:"text"`
		Base64 string  `json:"base64"`
	}
	if err := json.Unmarshal(in, &v); err != nil {
		return err
	}
	if v.Text != nil {
		*b = octets(*v.Text)
		return nil
	}
	raw, err := base64.StdEncoding.DecodeString(v.Base64)
	*b = raw
	return err
}

// load reads the recording that is nearest to a version of SQ. Where an answer is
// the recorded version, it puts this one.
func load(t *testing.T, version string) recording {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "sq-"+nearest(version)+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Scenarios {
		for _, step := range s.Steps {
			if step.Answer != nil && string(step.Answer.Body) == r.SQ {
				step.Answer.Body = octets(version)
			}
		}
	}
	return r
}

// nearest is the recorded release that a version of SQ answers like.
func nearest(version string) string {
	switch {
	case version == Release053:
		return Release053
	case strings.HasPrefix(version, "0.5."):
		return Release056
	}
	return Release060
}

// wire is the request, byte for byte as the recorder sent it.
func (s step) wire(key string) []byte {
	version := s.HTTP
	if version == "" {
		version = "HTTP/1.1"
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s %s\r\nHost: sq\r\n", s.Method, s.Target, version)
	authorization := "Bearer " + key
	switch {
	case s.Authorization == nil:
		fmt.Fprintf(&out, "Authorization: %s\r\n", authorization)
	case string(s.Authorization) != "null":
		_ = json.Unmarshal(s.Authorization, &authorization) // it was valid as a part of the recording
		fmt.Fprintf(&out, "Authorization: %s\r\n", authorization)
	}
	chunked := false
	for _, h := range s.Headers {
		fmt.Fprintf(&out, "%s: %s\r\n", h[0], h[1])
		chunked = chunked || strings.EqualFold(h[0], "Transfer-Encoding")
	}
	if s.Body != nil && !chunked {
		fmt.Fprintf(&out, "Content-Length: %d\r\n", len(*s.Body))
	}
	out.WriteString("\r\n")
	if s.Body != nil {
		out.Write(*s.Body)
	}
	return out.Bytes()
}

// answered is the recorded answer, byte for byte. It is empty if there was none.
func (s step) answered() []byte {
	if s.Answer == nil {
		return nil
	}
	var out bytes.Buffer
	text := statusText[s.Answer.Status]
	if s.Answer.Status == 204 {
		text = "No Content"
	}
	fmt.Fprintf(&out, "HTTP/1.1 %d %s\r\n", s.Answer.Status, text)
	for _, h := range s.Answer.Headers {
		fmt.Fprintf(&out, "%s: %s\r\n", h[0], h[1])
	}
	out.WriteString("\r\n")
	out.Write(s.Answer.Body)
	return out.Bytes()
}
