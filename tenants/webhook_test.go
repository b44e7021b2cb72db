package tenants

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

const goodSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func TestWebhooks(t *testing.T) {
	with := func(hooks string) *Snapshot {
		return parse(t, fileWith(`{`+goodEntry+`, "webhooks": [`+hooks+`]}`))
	}
	one := `{"id": "h", "url": "https://example.org:8443/x?token=1", "phexts": ["log-*"], "secret": "` + goodSecret + `", "note": "for a test"}`
	s := with(one)
	want, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(goodSecret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	hooks := s.All()[0].Webhooks()
	if len(hooks) != 1 || hooks[0].ID != "h" || hooks[0].URL != "https://example.org:8443/x?token=1" || hooks[0].Phexts[0] != "log-*" || !bytes.Equal(hooks[0].Secret(), want) {
		t.Fatalf("%d webhooks: %+v", len(hooks), hooks[0])
	}
	if d := Compare(s, with(strings.Replace(one, "Sw\"", "Sx\"", 1))); len(d.Changed) != 1 {
		t.Error("a change of a secret is not noticed")
	}
	made, another := NewWebhookSecret(), NewWebhookSecret()
	if with(strings.Replace(one, goodSecret, made, 1)); made == another {
		t.Error("two secrets are the same")
	}
	if wrong := checkWebhookID(NewWebhookID()); wrong != nil {
		t.Error(wrong)
	}
}

// TestWrongWebhooks names the field that is wrong, and repeats neither a secret nor a URL,
// which may have one in it.
func TestWrongWebhooks(t *testing.T) {
	with := func(url, rest string) string { return `{"id": "h", "url": "` + url + `", ` + rest + `}` }
	secret := `"secret": "` + goodSecret + `"`
	for entry, field := range map[string]string{
		`{"url": "https://a.org", ` + secret + `}`:                                 "webhooks.id",
		`{"id": "A", "url": "https://a.org", ` + secret + `}`:                      "webhooks.id",
		`{"id": "h", ` + secret + `}`:                                              "webhooks.url",
		with("a.org/token-1", secret):                                              "webhooks.url",
		with("ftp://a.org/token-1", secret):                                        "webhooks.url",
		with("https:///token-1", secret):                                           "webhooks.url",
		with("https://will:token-1@a.org/", secret):                                "webhooks.url",
		with("https://a.org/#token-1", secret):                                     "webhooks.url",
		with("https://a.org/token-1#", secret):                                     "webhooks.url",
		with("https://a.org:0/token-1", secret):                                    "webhooks.url",
		with("https://a.org:65536/token-1", secret):                                "webhooks.url",
		with("https://[fe80::1%25eth0]/token-1", secret):                           "webhooks.url",
		with("https://a.org/\\u0001token-1", secret):                               "webhooks.url",
		with("https://a.org/token-1"+strings.Repeat("x", 2048), secret):            "webhooks.url",
		with("https://a.org/", `"note": "n"`):                                      "webhooks.secret",
		with("https://a.org/", `"secret": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`):     "webhooks.secret",
		with("https://a.org/", `"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2L"`):    "webhooks.secret",
		with("https://a.org/", `"secret": "whsec_`+strings.Repeat("MfKQ", 22)+`"`): "webhooks.secret",
		with("https://a.org/", `"phexts": [], `+secret):                            "webhooks.phexts",
		with("https://a.org/", `"note": "\n", `+secret):                            "webhooks.note",
		with("https://a.org/", `"key": "n", `+secret):                              "webhooks.key",
		`"h"`: "webhooks",
		with("https://a.org/", secret) + `, ` + with("https://b.org/", secret):    "webhooks.id",
		strings.Repeat(with("https://a.org/", secret)+`, `, mostWebhooks) + `"h"`: "webhooks",
	} {
		_, err := Parse([]byte(fileWith(`{"id": "will", "api_key": "` + exampleKey + `", "data_dir": "/d/w", "webhooks": [` + entry + `]}`)))
		if err == nil || !strings.Contains(err.Error(), `field "`+field+`"`) || strings.Contains(err.Error(), "MfKQ9r8") || strings.Contains(err.Error(), "token-1") {
			t.Errorf("%s: %v, want field %s", entry, err, field)
		}
	}
}

func TestEditWebhooks(t *testing.T) {
	var e Entry
	for _, id := range []string{"a", "b"} {
		if err := e.AddWebhook(WebhookEntry{ID: &id}); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err := e.RemoveWebhook("a"); err != nil || *removed.ID != "a" || len(*e.Webhooks) != 1 {
		t.Errorf("%+v, %v", removed, err)
	}
	if _, err := e.RemoveWebhook("a"); err != ErrNoWebhook {
		t.Error(err)
	}
	if _, err := e.RemoveWebhook("b"); err != nil || e.Webhooks != nil {
		t.Errorf("%v, %v", e.Webhooks, err)
	}
}
