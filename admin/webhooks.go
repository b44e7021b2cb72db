package admin

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/webhooks"
)

// webhookView is a webhook of a tenant. The secret is in no answer but the one that made
// it.
type webhookView struct {
	ID            string         `json:"id"`
	URL           string         `json:"url"`
	Phexts        []string       `json:"phexts,omitempty"` // patterns; none = all
	Note          string         `json:"note,omitempty"`
	Secret        string         `json:"secret,omitempty"` // only in the answer to the call that made it
	State         webhooks.State `json:"state"`
	LastDelivered *time.Time     `json:"last_delivered,omitempty"`
	FailingSince  *time.Time     `json:"failing_since,omitempty"`
	Error         string         `json:"error,omitempty"`
}

func (a *API) viewOfWebhook(t *tenants.Tenant, h *tenants.Webhook) webhookView {
	s := a.Webhooks.Status(t, h)
	return webhookView{ID: h.ID, URL: h.URL, Phexts: h.Phexts, Note: h.Note, State: s.State,
		LastDelivered: optionalTime(s.LastDelivered), FailingSince: optionalTime(s.FailingSince), Error: s.Error}
}

func (a *API) listWebhooks(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	list := []webhookView{}
	for _, h := range t.Webhooks() {
		list = append(list, a.viewOfWebhook(t, h))
	}
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "webhooks": list})
	return nil
}

// addWebhook makes a webhook, which is told of what is done from then on.
func (a *API) addWebhook(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		ID     *string    `json:"id"`
		URL    *string    `json:"url"`
		Phexts *[]*string `json:"phexts"`
		Secret *string    `json:"secret"`
		Note   *string    `json:"note"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	if in.URL == nil {
		return badRequest(`field "url" is missing: say where the changes are to be sent`)
	}
	if a.Webhooks.Off() {
		return apierror.New(apierror.Conflict, "there are no webhooks here: --webhook-allow is none")
	}
	if in.ID == nil {
		in.ID = ptr(tenants.NewWebhookID())
	}
	made := ""
	if in.Secret == nil {
		made = tenants.NewWebhookSecret()
		in.Secret = &made
	}
	id := r.PathValue("id")
	err := a.changeEntry(id, func(e *tenants.Entry) error {
		if t, ok := a.Store.Current().ByID(id); ok && t.Archived {
			return errArchived(id)
		}
		return e.AddWebhook(tenants.WebhookEntry{ID: in.ID, URL: in.URL, Phexts: in.Phexts, Secret: in.Secret, Note: in.Note})
	})
	if err != nil {
		return err
	}
	t, err := a.tenant(r)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(t.Webhooks(), func(h *tenants.Webhook) bool { return h.ID == *in.ID })
	if i < 0 {
		return tenants.ErrNoWebhook // somebody has removed it already
	}
	v := a.viewOfWebhook(t, t.Webhooks()[i])
	audited := v
	audited.URL = serverOf(v.URL)
	a.record(r, "add-webhook", id, nil, audited)
	v.Secret = made
	apierror.WriteJSON(w, http.StatusCreated, struct {
		Tenant string `json:"tenant_id"`
		webhookView
	}{id, v})
	return nil
}

// serverOf is a URL as the audit log has it. What is behind the server can be a secret.
func serverOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// removeWebhook ends a webhook. Nothing is sent to it any more when the call is answered.
func (a *API) removeWebhook(w http.ResponseWriter, r *http.Request) error {
	id, hook := r.PathValue("id"), r.PathValue("webhook")
	var removed tenants.WebhookEntry
	err := a.changeEntry(id, func(e *tenants.Entry) (err error) {
		removed, err = e.RemoveWebhook(hook)
		return err
	})
	if err != nil {
		return err
	}
	removed.Secret, removed.URL = nil, ptr(serverOf(*removed.URL))
	a.record(r, "remove-webhook", id, removed, nil)
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"tenant_id": id, "id": hook, "status": "removed"})
	return nil
}
