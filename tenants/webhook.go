package tenants

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
)

// Webhook is a URL that is told of a tenant's changes. It is immutable.
type Webhook struct {
	ID     string
	URL    string
	Phexts []string // patterns of the names of those that count; nil = all
	Note   string

	secret []byte
}

// Secret is what requests are signed with. It must be shown to nobody.
func (h *Webhook) Secret() []byte { return h.secret }

// Webhooks are those of a tenant. The slice must not be changed.
func (t *Tenant) Webhooks() []*Webhook { return t.webhooks }

var (
	// ErrNoWebhook is the id of a webhook that the tenant does not have.
	ErrNoWebhook = apierror.New(apierror.NotFound, "the tenant has no webhook with this id")
	// ErrWebhookExists is the id of one that it has.
	ErrWebhookExists = apierror.New(apierror.Conflict, "the tenant has a webhook with this id already: remove it first, or choose another id")
)

// WebhookEntry is a webhook as the tenants file has it. A nil field is not in the file.
type WebhookEntry struct {
	ID     *string    `json:"id,omitempty"`
	URL    *string    `json:"url,omitempty"`
	Phexts *[]*string `json:"phexts,omitempty"` // patterns
	Secret *string    `json:"secret,omitempty"` // in clear: without it nothing can be signed
	Note   *string    `json:"note,omitempty"`
}

func (h WebhookEntry) id() string { return valueOr(h.ID, "") }

// mostWebhooks is how many webhooks a tenant may have.
const mostWebhooks = 16

// Secrets are written as the Standard Webhooks specification has them: a prefix, and
// 24 to 64 bytes in base64.
const (
	secretPrefix = "whsec_"
	newSecret    = 32
	leastSecret  = 24
	mostSecret   = 64
)

// longestURL is how long the URL of a webhook is at most, in bytes.
const longestURL = 2048

// NewWebhookSecret makes a secret from 256 bits of the system's secure random source.
func NewWebhookSecret() string {
	var b [newSecret]byte
	_, _ = rand.Read(b[:]) // it never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(b[:])
}

// NewWebhookID is an id for a webhook that was given none.
func NewWebhookID() string { return "hook-" + strings.ToLower(rand.Text()[:8]) }

// webhookList reads the field webhooks.
func (b *builder) webhookList(list *[]json.RawMessage) (hooks []*Webhook) {
	b.eachListed("webhooks", "webhook", `{"id", "url", "secret"}`, mostWebhooks, list, func(decode func(map[string]any) bool) (id string, ok bool) {
		var e WebhookEntry
		if !decode(map[string]any{"webhooks.id": &e.ID, "webhooks.url": &e.URL, "webhooks.phexts": &e.Phexts,
			"webhooks.secret": &e.Secret, "webhooks.note": &e.Note}) {
			return "", false
		}
		h := b.webhook(e)
		hooks = append(hooks, h)
		return h.ID, true
	})
	return hooks
}

func (b *builder) webhook(e WebhookEntry) *Webhook {
	h := &Webhook{ID: e.id(), URL: valueOr(e.URL, "")}
	if wrong := checkWebhookID(h.ID); wrong != nil {
		b.refuseValue("webhooks.id", wrong)
	}
	if wrong := checkURL(h.URL); wrong != nil {
		b.refuseValue("webhooks.url", wrong)
	}
	if e.Phexts != nil {
		h.Phexts = b.patterns("webhooks.phexts", e.Phexts, "leave it out for all phexts")
	}
	text, prefixed := strings.CutPrefix(valueOr(e.Secret, ""), secretPrefix)
	secret, err := base64.StdEncoding.DecodeString(text)
	if !prefixed || err != nil || len(secret) < leastSecret || len(secret) > mostSecret {
		b.refuse("webhooks.secret", "is missing, or is not one", `write "whsec_" and 24 to 64 random bytes in base64, as "whsec_$(openssl rand -base64 32)" in a shell makes it`)
	}
	h.secret = secret
	h.Note = b.note("webhooks.note", e.Note)
	return h
}

func checkWebhookID(id string) *ValueError {
	switch {
	case len(id) > maxIDLen, id == "":
		return wrongLength(len(id), 1, maxIDLen)
	case strings.ContainsFunc(id, notInID), id[0] == '-', id[len(id)-1] == '-', strings.Contains(id, keyPrefix):
		return &ValueError{"is not one of a webhook", "use lower-case letters and digits, and '-' inside"}
	}
	return nil
}

// checkURL refuses what no request can be sent to. To which addresses one may be sent is
// looked at when a name was resolved.
func checkURL(text string) *ValueError {
	u, err := url.Parse(text)
	switch {
	case len(text) > longestURL:
		return wrongLength(len(text), 1, longestURL)
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || strings.Contains(u.Hostname(), "%"):
		return &ValueError{"is not a URL that a webhook can have", `write it whole, such as "https://receiver.example/hook"`}
	case u.User != nil:
		return &ValueError{"has a user or a password in it", "leave them out: the receiver knows the sender by the signature"}
	case u.Fragment != "" || strings.HasSuffix(text, "#"):
		return &ValueError{"has a fragment, which is never sent", "leave out the '#' and what follows"}
	case u.Port() != "":
		if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
			return &ValueError{"has a port that there is not", "use 1 to 65535, or leave it out"}
		}
	}
	return nil
}

// AddWebhook adds a webhook to those of a tenant. The error is ErrWebhookExists if there is
// one with its id.
func (e *Entry) AddWebhook(h WebhookEntry) error {
	return addListed(&e.Webhooks, h, ErrWebhookExists)
}

// RemoveWebhook removes a webhook, and returns it. The error is ErrNoWebhook if there is
// none with this id.
func (e *Entry) RemoveWebhook(id string) (removed WebhookEntry, err error) {
	return removeListed[WebhookEntry](&e.Webhooks, id, ErrNoWebhook)
}
