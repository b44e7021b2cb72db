package jwtauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const secret = "a secret of the tests, of 40 characters."

var now = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func publicPEM(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func load(t *testing.T, text string) (*Verifier, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path, "tenant", func() time.Time { return now })
}

func sign(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims, header ...string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	for i := 0; i < len(header); i += 2 {
		token.Header[header[i]] = header[i+1]
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// good are claims that are in order, with more or other ones.
func good(more ...any) jwt.MapClaims {
	claims := jwt.MapClaims{"tenant": "will", "exp": now.Add(time.Hour).Unix()}
	for i := 0; i < len(more); i += 2 {
		claims[more[i].(string)] = more[i+1]
	}
	return claims
}

// keys are one of each kind, by the algorithm that it is for.
func keys(t *testing.T) map[string]struct{ sign, public any } {
	t.Helper()
	all := map[string]struct{ sign, public any }{"HS256": {[]byte(secret), nil}}
	for name, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = struct{ sign, public any }{key, key.Public()}
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	all["RS256"] = struct{ sign, public any }{r, r.Public()}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	all["EdDSA"] = struct{ sign, public any }{private, public}
	return all
}

// TestTheKeyDecidesTheAlgorithm has each kind of key verify its own tokens, and none that
// another key or another algorithm has signed, also with the public key as a secret.
func TestTheKeyDecidesTheAlgorithm(t *testing.T) {
	all := keys(t)
	for name, key := range all {
		file := secret + "\n"
		if key.public != nil {
			file = publicPEM(t, key.public)
		}
		v, err := load(t, file)
		if err != nil {
			t.Fatal(name, err)
		}
		for other, signer := range all {
			id, err := v.Verify(sign(t, jwt.GetSigningMethod(other), signer.sign, good()), atOnce)
			if (err == nil) != (other == name) || err == nil && (id != Identity{Tenant: "will"}) {
				t.Errorf("%s verifies a token with %s: %+v, %v", name, other, id, err)
			}
		}
		for _, forged := range []string{
			sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good()),
			sign(t, jwt.SigningMethodHS256, []byte(publicPEM(t, all["RS256"].public)), good()),
			sign(t, jwt.SigningMethodHS256, []byte(strings.TrimSpace(file)+"x"), good()),
			sign(t, jwt.SigningMethodHS384, []byte(secret), good()),
			sign(t, jwt.SigningMethodRS512, all["RS256"].sign, good()),
			sign(t, jwt.SigningMethodPS256, all["RS256"].sign, good()),
		} {
			if id, err := v.Verify(forged, atOnce); !errors.Is(err, errInvalid) {
				t.Errorf("%s verifies %s: %+v, %v", name, forged, id, err)
			}
		}
	}
}

func TestClaims(t *testing.T) {
	v, err := load(t, secret)
	if err != nil {
		t.Fatal(err)
	}
	issued := now.Add(-time.Minute)
	for _, test := range []struct {
		name   string
		claims jwt.MapClaims
		want   Identity
		err    error
	}{
		{"only what is needed", good(), Identity{Tenant: "will"}, nil},
		{"read", good("access", "read"), Identity{Tenant: "will", ReadOnly: true}, nil},
		{"read-write", good("access", "read-write", "email", "w@example.org"), Identity{Tenant: "will"}, nil},
		{"iat", good("iat", issued.Unix()), Identity{Tenant: "will", IssuedAt: issued.Local()}, nil},
		{"expired", good("exp", now.Add(-time.Second).Unix()), Identity{}, ErrExpired},
		{"expires now", good("exp", now.Unix()), Identity{}, ErrExpired},
		{"no exp", jwt.MapClaims{"tenant": "will"}, Identity{}, errInvalid},
		{"exp is null", good("exp", nil), Identity{}, errInvalid},
		{"exp is a text", good("exp", "2030-01-01"), Identity{}, errInvalid},
		{"not yet", good("nbf", now.Add(time.Hour).Unix()), Identity{}, errInvalid},
		{"iat is a text", good("iat", "now"), Identity{}, errInvalid},
		{"no tenant", good("tenant", nil), Identity{}, errInvalid},
		{"an empty tenant", good("tenant", ""), Identity{}, errInvalid},
		{"two tenants", good("tenant", []string{"will", "other"}), Identity{}, errInvalid},
		{"a number", good("tenant", 5), Identity{}, errInvalid},
		{"unknown access", good("access", "admin"), Identity{}, errInvalid},
		{"access in capitals", good("access", "READ"), Identity{}, errInvalid},
		{"access is null", good("access", nil), Identity{}, errInvalid},
		{"access is a list", good("access", []string{"read"}), Identity{}, errInvalid},
		{"ACCESS", good("ACCESS", "read"), Identity{}, errInvalid},
		{"Access, with another letter", good("acce\u017fs", "read"), Identity{}, errInvalid},
		{"access and Access", good("access", "read-write", "Access", "read"), Identity{}, errInvalid},
		{"Tenant", good("Tenant", "other"), Identity{}, errInvalid},
		{"Nbf", good("Nbf", now.Add(time.Hour).Unix()), Identity{}, errInvalid},
		{"other claims", good("sub", "w", "Sub", "x", "scope", "read", "accessed", true), Identity{Tenant: "will"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			id, err := v.Verify(sign(t, jwt.SigningMethodHS256, []byte(secret), test.claims), atOnce)
			if !errors.Is(err, test.err) || !id.IssuedAt.Equal(test.want.IssuedAt) || id.Tenant != test.want.Tenant || id.ReadOnly != test.want.ReadOnly {
				t.Errorf("%+v, %v", id, err)
			}
		})
	}
}

// TestAClaimThatIsThereTwice is signed, and does not say which one counts.
func TestAClaimThatIsThereTwice(t *testing.T) {
	v, err := load(t, secret)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(claims string) string {
		header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`))
		text := header + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		sum, err := jwt.SigningMethodHS256.Sign(text, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + base64.RawURLEncoding.EncodeToString(sum)
	}
	if id, err := v.Verify(signed(`{"tenant":"will","access":"read","exp":99999999999}`), atOnce); err != nil || !id.ReadOnly {
		t.Fatalf("%+v, %v", id, err)
	}
	for _, claims := range []string{
		`{"tenant":"will","access":"read","exp":99999999999,"access":"read-write"}`,
		`{"tenant":"will","exp":99999999999,"access":"read","acc\u0065ss":"read-write"}`,
		`{"tenant":"will","tenant":"other","exp":99999999999}`,
	} {
		if id, err := v.Verify(signed(claims), atOnce); !errors.Is(err, errInvalid) {
			t.Errorf("%s: %+v, %v", claims, id, err)
		}
	}
}

func TestBrokenTokens(t *testing.T) {
	v, err := load(t, secret)
	if err != nil {
		t.Fatal(err)
	}
	token := sign(t, jwt.SigningMethodHS256, []byte(secret), good())
	parts := strings.Split(token, ".")
	other := base64.RawURLEncoding.EncodeToString([]byte(`{"tenant":"other","exp":99999999999}`))
	for _, broken := range []string{
		"", ".", "..", "...", "pmb-v1-00112233445566778899aabbccddeeff", parts[0] + "." + parts[1], token + ".", token + "=", "x" + token, " " + token,
		parts[0] + "." + other + "." + parts[2], parts[0] + "." + parts[1] + ".", parts[0] + "." + parts[1] + "." + parts[2][1:],
		sign(t, jwt.SigningMethodHS256, []byte(secret), good(), "crit", "exp"),
		sign(t, jwt.SigningMethodHS256, []byte(secret), good("more", strings.Repeat("x", longestToken))),
	} {
		if id, err := v.Verify(broken, atOnce); err == nil || id != (Identity{}) {
			t.Errorf("%.100s: %+v, %v", broken, id, err)
		}
	}
	if _, err := (*Verifier)(nil).Verify(token, atOnce); err == nil {
		t.Error("without a key, a token is taken")
	}
}

// TestKeyFilesRefused names what is wrong, and repeats nothing of the file.
func TestKeyFilesRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(small)
	if err != nil {
		t.Fatal(err)
	}
	public := publicPEM(t, keys(t)["ES256"].public)
	block, _ := pem.Decode([]byte(public))
	for _, test := range []struct{ name, text, says string }{
		{"empty", "", "0 bytes"},
		{"short", "too-short-a-secret\n", "18 bytes"},
		{"only white space", strings.Repeat(" \n", 40), "0 bytes"},
		{"an RSA key too short", publicPEM(t, small.Public()), "1024 bits"},
		{"a curve that no algorithm has", publicPEM(t, p224.Public()), "another kind"},
		{"a private key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), "PRIVATE KEY: a PUBLIC KEY"},
		{"two keys", public + public, "more than one"},
		{"half a PEM", public[:60], "not whole"},
		{"PEM of nonsense", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("nonsense")})), "cannot be read"},
		{"DER", string(block.Bytes), "PEM"},
		{"a JWK", `{"kty":"RSA","n":"` + strings.Repeat("A", 40) + `"}`, "PEM"},
		{"an SSH key", "ssh-ed25519 " + strings.Repeat("A", 40), "PEM"},
		{"too large", strings.Repeat("x", largestFile+1), "at most"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(t, test.text)
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "too-short") {
				t.Errorf("%v", err)
			}
		})
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, t.TempDir(), "/nowhere/key"} {
		if _, err := Load(path, "tenant", time.Now); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// atOnce is for Verify.
func atOnce(work func()) error {
	work()
	return nil
}

// TestAGoodTokenIsVerifiedOnce, until it expires. A bad one is never remembered.
func TestAGoodTokenIsVerifiedOnce(t *testing.T) {
	v, err := load(t, secret)
	if err != nil {
		t.Fatal(err)
	}
	at := now
	v.now = func() time.Time { return at }
	token := sign(t, jwt.SigningMethodHS256, []byte(secret), good())
	bad := token + "x"
	for i := range 2 {
		if id, err := v.Verify(token, atOnce); err != nil || id.Tenant == "" {
			t.Errorf("%+v, %v", id, err)
		}
		if _, err := v.Verify(bad, atOnce); err == nil {
			t.Error("a bad token is good")
		}
		if i == 0 {
			v.key = []byte("another secret of the tests, of 40 chars") // which is not asked for again
		}
	}
	if n := v.verified.Len(); n != 1 {
		t.Errorf("%d are remembered", n)
	}
	at = at.Add(24 * time.Hour)
	if _, err := v.Verify(token, atOnce); err != ErrExpired {
		t.Errorf("a day later: %v", err)
	}
}
