package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const jwtSecret = "the secret of the tokens of these tests\n"

// takeTokens has the gate take tokens that newToken makes.
func (g *gate) takeTokens() {
	g.t.Helper()
	path := filepath.Join(g.dir, "jwt-key")
	if err := os.WriteFile(path, []byte(jwtSecret), 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.args = append(g.args, "--jwt-key-file", path)
}

func newToken(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	if claims["exp"] == nil {
		claims["exp"] = time.Now().Add(time.Hour).Unix()
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(strings.TrimSpace(jwtSecret)))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (g *gate) withBearer(token, method, target, body string, headers ...string) reply {
	g.t.Helper()
	req, err := http.NewRequest(method, g.url+target, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	r, err := g.send(req)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

// TestTokensAndLongKeys uses keys as long as they may be, and tokens, also those of a
// tenant whose id is used again.
func TestTokensAndLongKeys(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "long")
		long := strings.Repeat("k.", 2048)
		g.set("long", "api_key", long)
		g.writeFile()
		g.takeTokens()
		g.args = append(g.args, "--jwt-claim", "instance")
		g.start()
		g.must("long", "POST", at("update", "n", origin), "a long key", 200)
		if r := g.withBearer(long+"x", "GET", at("select", "n", origin), ""); r.status != 401 {
			t.Errorf("a longer key: %d %s", r.status, r.body)
		}
		token := newToken(t, jwt.MapClaims{"instance": "will", "iat": time.Now().Add(-time.Minute).Unix(), "email": strings.Repeat("e", 300)})
		if r := g.withBearer(token, "POST", at("update", "n", origin), "by token"); r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		}
		if got := g.get("will", at("select", "n", origin)); got != "by token" {
			t.Errorf("will has %q", got)
		}
		if r := g.withBearer(newToken(t, jwt.MapClaims{"instance": "will", "access": "read"}), "DELETE", at("delete", "n", origin), ""); r.status != 403 {
			t.Errorf("%d %s", r.status, r.body)
		}
		if r := g.withBearer(token, "GET", "/api/v2/admin/tenants", ""); r.status == 200 {
			t.Errorf("a token is a management key: %s", r.body)
		}
		if events := g.history("will"); len(events[0].(map[string]any)["key"].(string)) != 8 {
			t.Errorf("%v", events)
		}
		g.add("acme", 1)
		old := newToken(t, jwt.MapClaims{"instance": "acme", "iat": time.Now().Add(-time.Hour).Unix()})
		if r := g.withBearer(old, "GET", at("select", "n", origin), ""); r.status != 401 {
			t.Errorf("a token of an earlier acme: %d %s", r.status, r.body)
		}
		g.stop()
		state, err := os.ReadFile(filepath.Join(g.dir, "state", "calls.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{token, old, long, strings.TrimSpace(jwtSecret)} {
			if strings.Contains(g.log.String(), secret) || strings.Contains(string(state), secret) {
				t.Error("a secret was written down")
			}
		}
	})
}

// TestAWrongJWTKeyFile ends the start with an error that names the flag.
func TestAWrongJWTKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("guess-me"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ args, says []string }{
		{[]string{"--jwt-key-file", short}, []string{"--jwt-key-file", short, "at least 32"}},
		{[]string{"--jwt-key-file", dir}, []string{"--jwt-key-file", dir}},
		{[]string{"--jwt-key-file", dir + "/none"}, []string{"--jwt-key-file", "no such file"}},
		{[]string{"--jwt-claim", ""}, []string{"--jwt-claim"}},
		{[]string{"--jwt-claim", "access"}, []string{"--jwt-claim"}},
		{[]string{"--public-reads-per-minute", "0"}, []string{"--public-reads-per-minute is 0"}},
	} {
		g := newGate(t, builtin, "will")
		said, status := sqgateOutput(t, nil, append([]string{"serve", "--config", g.configPath(), "--sq", builtin, "--state-dir", filepath.Join(g.dir, "state"), "--listen", "127.0.0.1:0"}, test.args...)...)
		if status != 2 || strings.Contains(said, "guess-me") {
			t.Errorf("%v: status %d\n%s", test.args, status, said)
		}
		for _, part := range test.says {
			if !strings.Contains(said, part) {
				t.Errorf("%v says %s", test.args, said)
			}
		}
	}
}
