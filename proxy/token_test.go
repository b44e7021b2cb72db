package proxy

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/jwtauth"
	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/storage/journal"
)

const jwtSecret = "the secret of the tokens of these tests"

func tokenFor(t testing.TB, claims jwt.MapClaims) string {
	t.Helper()
	if _, given := claims["exp"]; !given {
		claims["exp"] = time.Now().Add(time.Hour).Unix()
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(jwtSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (w *world) takeTokens() {
	w.Helper()
	path := filepath.Join(w.root, "jwt-key")
	w.check(os.WriteFile(path, []byte(jwtSecret), 0o600))
	var err error
	w.Tokens, err = jwtauth.Load(path, "tenant", func() time.Time { return w.now() })
	w.check(err)
}

// TestTokens has a token stand for the key of the tenant that it names.
func TestTokens(t *testing.T) {
	const write, otherWrite = "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.5", "/will/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.6"
	w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"incarnation": "20260131T150405.500000000Z", "writers": []string{"other"}}, others: neighbours(t.TempDir())})
	w.KeyLimit = keylimit.PerMinute(1<<20, time.Now)
	incarnation := time.Date(2026, 1, 31, 15, 4, 5, 0, time.UTC)
	type claims = jwt.MapClaims
	for _, test := range []struct {
		name           string
		claims         claims
		method, target string
		status         int
		says           string
	}{
		{"a read", claims{"tenant": "will"}, "GET", third, 200, "the scroll"},
		{"a write", claims{"tenant": "will"}, "POST", write, 200, "Updated"},
		{"read-write", claims{"tenant": "will", "access": "read-write"}, "POST", write, 200, "Updated"},
		{"a read, to read", claims{"tenant": "will", "access": "read"}, "GET", "/will" + third, 200, "the scroll"},
		{"a write, to read", claims{"tenant": "will", "access": "read"}, "POST", write, 403, "may read and not write"},
		{"a delete, to read", claims{"tenant": "will", "access": "read"}, "GET", "/api/v2/delete?p=notes&c=1.1.1/1.1.1/1.1.3", 403, "may read"},
		{"a manifest, to read", claims{"tenant": "will", "access": "read"}, "POST", "/api/v2/delta?p=notes", 200, ""},
		{"a space, to write", claims{"tenant": "other"}, "POST", otherWrite, 200, "Updated"},
		{"a space, to read", claims{"tenant": "other", "access": "read"}, "POST", otherWrite, 403, "may read"},
		{"a space, read", claims{"tenant": "other", "access": "read"}, "GET", "/will" + third, 200, "the scroll"},
		{"another's", claims{"tenant": "will"}, "GET", "/other" + third, 403, "not that tenant's"},
		{"unknown access", claims{"tenant": "will", "access": "all"}, "GET", third, 401, "missing or wrong"},
		{"nobody", claims{"tenant": "nobody"}, "GET", third, 401, "missing or wrong"},
		{"another claim", claims{"sub": "will"}, "GET", third, 401, "missing or wrong"},
		{"disabled", claims{"tenant": "off"}, "GET", third, 403, "disabled"},
		{"archived", claims{"tenant": "gone"}, "GET", third, 403, "disabled"},
		{"expired", claims{"tenant": "will", "exp": time.Now().Add(-time.Minute).Unix()}, "GET", third, 401, "expired"},
		{"issued to an earlier tenant", claims{"tenant": "will", "iat": incarnation.Unix() - 1}, "GET", third, 401, "missing or wrong"},
		{"issued at once", claims{"tenant": "will", "iat": incarnation.Unix()}, "GET", third, 200, "the scroll"},
	} {
		t.Run(test.name, func(t *testing.T) {
			token := tokenFor(t, test.claims)
			for scheme, headers := range map[string][]string{
				"bearer": {"Authorization", "Bearer " + token}, "bare": {"Authorization", token}, "X-SQ-API-Key": {"X-SQ-API-Key", token},
			} {
				ask := func() *httptest.ResponseRecorder {
					r := w.request(test.method, test.target, "text")
					r.Header.Del("Authorization")
					r.Header.Set(headers[0], headers[1])
					return w.serve(r)
				}
				w.Tokens = nil
				if answer := ask(); answer.Code != 401 {
					t.Errorf("%s, without --jwt-key-file: %d %s", scheme, answer.Code, answer.Body)
				}
				w.takeTokens()
				answer := ask()
				if answer.Code != test.status || !strings.Contains(answer.Body.String(), test.says) || (answer.Code == 401) != (answer.Header().Get("WWW-Authenticate") != "") {
					t.Errorf("%s: %d %s", scheme, answer.Code, answer.Body)
				}
			}
			r := w.request(test.method, "/k/"+token+test.target, "text")
			r.Header.Del("Authorization")
			w.wantError(w.serve(r), 401, "unauthorized") // a URL is logged on its way
			if log := w.log.String(); strings.Contains(log, token) || strings.Contains(log, strings.Split(token, ".")[2]) {
				t.Error("the log has the token")
			}
		})
	}
	j, err := w.Dirs.JournalOf(w.dir)
	w.check(err)
	events, err := j.History(journal.Query{File: "notes.phext"})
	w.check(err)
	for _, e := range events {
		if len(e.Key) > 8 || e.Tenant != "other" && !strings.HasPrefix(e.Tenant, "will/") {
			t.Errorf("the history has %+v", e)
		}
	}
	if len(events) < 9 {
		t.Errorf("%d writes", len(events))
	}
	w.wantAllFree()
}

// TestWrongTokensAreLimited by client address, together with wrong keys.
func TestWrongTokensAreLimited(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	w.takeTokens()
	w.KeyLimit = keylimit.PerMinute(2, time.Now)
	good := tokenFor(t, jwt.MapClaims{"tenant": "will"})
	first := w.ask("GET", third, "", "Authorization", "Bearer "+good)
	expired := tokenFor(t, jwt.MapClaims{"tenant": "will", "exp": 1})
	for i, token := range []string{expired, "a.b.c", expired} {
		answer := w.ask("GET", third, "", "Authorization", "Bearer "+token)
		if want := []int{401, 401, 429}[i]; answer.Code != want {
			t.Errorf("%d: %d %s", i, answer.Code, answer.Body)
		}
	}
	if answer := w.ask("GET", third, "", "Authorization", "Bearer "+good); first.Code != 200 || answer.Code != 200 {
		t.Errorf("a good one: %d, then %d %s", first.Code, answer.Code, answer.Body)
	}
}

// TestTokensAreVerifiedInTurns, so that bad ones keep nobody else waiting.
func TestTokensAreVerifiedInTurns(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	w.takeTokens()
	var verified atomic.Bool
	var err error
	w.Tokens, err = jwtauth.Load(filepath.Join(w.root, "jwt-key"), "tenant", func() time.Time {
		verified.Store(true)
		return time.Now()
	})
	w.check(err)
	queue, err := fairqueue.New(1)
	w.check(err)
	defer func() { w.check(queue.Close()) }()
	other := queue.Turn("another tenant")
	w.check(other.Take(t.Context()))
	r := w.request("GET", third, "", "Authorization", "Bearer "+tokenFor(t, jwt.MapClaims{"tenant": "will", "exp": 1}))
	answered := make(chan int)
	go func() {
		answered <- w.serve(r.WithContext(fairqueue.WithTurn(r.Context(), queue.Turn("a connection")))).Code
	}()
	for queue.Waiting() == 0 {
		runtime.Gosched()
	}
	if verified.Load() {
		t.Error("it was verified while another had the only turn")
	}
	other.Give()
	if status := <-answered; status != 401 || !verified.Load() {
		t.Errorf("%d, verified: %v", status, verified.Load())
	}
}

// TestTokensOfWhoeverGuesses are not verified any more. A good one that is known still counts.
func TestTokensOfWhoeverGuesses(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	w.takeTokens()
	good := tokenFor(t, jwt.MapClaims{"tenant": "will", "exp": time.Now().Add(time.Hour).Unix()})
	ask := func(token string) int { return w.ask("GET", third, "", "Authorization", "Bearer "+token).Code }
	if status := ask(good); status != 200 {
		t.Fatal(status)
	}
	status := 0
	for i := 0; status != 429; i++ {
		if status = ask(good + fmt.Sprint("x", i)); status != 401 && status != 429 || i > 1000 {
			t.Fatalf("wrong token %d: %d", i, status)
		}
	}
	verified := false
	v, err := jwtauth.Load(filepath.Join(w.root, "jwt-key"), "tenant", func() time.Time { verified = true; return time.Now() })
	w.check(err)
	before := w.Tokens
	w.Tokens = v
	if status := ask(good); status != 429 || verified {
		t.Errorf("one that is not known: %d, verified: %v", status, verified)
	}
	w.Tokens = before
	if status := ask(good); status != 200 {
		t.Errorf("one that is known: %d", status)
	}
}

// TestAKeyOfThreePartsIsAKey, and not read as a token.
func TestAKeyOfThreePartsIsAKey(t *testing.T) {
	token := tokenFor(t, jwt.MapClaims{"tenant": "other"})
	w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"api_key": token}, others: neighbours(t.TempDir())})
	w.takeTokens()
	if answer := w.ask("GET", "/will"+third, "", "Authorization", "Bearer "+token); answer.Code != 200 || answer.Body.String() != "the scroll" {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}
