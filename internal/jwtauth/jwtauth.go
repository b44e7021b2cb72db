// Package jwtauth verifies JSON Web Tokens (RFC 7519) that name a tenant. It makes none,
// and it knows neither tenants nor requests.
package jwtauth

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"

	"mirrorborn.us/sqgate/internal/strictjson"
)

// Verifier verifies tokens with one key. Its methods may be called by many at a time.
// A nil Verifier takes no token.
type Verifier struct {
	key      any
	parser   *jwt.Parser
	claim    string
	now      func() time.Time
	verified *lru.Cache[[sha256.Size]byte, verified] // by the SHA-256 of the token
}

// verified is a good token. A signature takes up to milliseconds to verify, and whoever
// listens for long is looked at again and again.
type verified struct {
	Identity
	expires time.Time
}

// mostVerified is how many good tokens are remembered.
const mostVerified = 4096

// Identity is what a token says.
type Identity struct {
	Tenant   string // the claim that names it
	ReadOnly bool
	IssuedAt time.Time // zero if the token does not say
}

// ErrExpired is a token that was good once.
var ErrExpired = errors.New("the token has expired")

var errInvalid = errors.New("this is no token that is wanted here")

const (
	largestFile  = 64 << 10
	longestToken = 4096
	// leastSecret is the shortest secret that HS256 may have (RFC 7518, section 3.2), and
	// leastRSA the shortest key for RS256 (section 3.3).
	leastSecret = 32   // bytes
	leastRSA    = 2048 // bits
)

// Load reads the key file: a PEM public key, or else the secret of HS256, without the
// white space at its end. claim is the claim that names the tenant. The error repeats
// nothing of the file.
//
// The key decides which algorithm a token must have, and never the token.
func Load(path, claim string, now func() time.Time) (*Verifier, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	key, method, err := parseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{method}), jwt.WithExpirationRequired(), jwt.WithTimeFunc(now), jwt.WithStrictDecoding())
	remembered, err := lru.New[[sha256.Size]byte, verified](mostVerified)
	return &Verifier{key, parser, claim, now, remembered}, err
}

func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would wait for a writer
	if err != nil {
		return nil, err // it names the path
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > largestFile {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, largestFile)
	}
	return io.ReadAll(io.LimitReader(f, largestFile))
}

// parseKey is the key, and the one algorithm that it is for. What is a public key in
// another form is refused: as a secret, everybody would know it.
func parseKey(text []byte) (key any, method string, err error) {
	block, rest := pem.Decode(text)
	secret := bytes.TrimRight(text, " \t\r\n")
	_, notDER := x509.ParsePKIXPublicKey(text)
	switch {
	case block != nil && bytes.Contains(rest, []byte("-----BEGIN")):
		return nil, "", errors.New("holds more than one key: keep the one whose tokens are wanted")
	case block != nil:
		return parsePublicKey(block)
	case bytes.Contains(text, []byte("-----BEGIN")):
		return nil, "", errors.New("is not whole: a PEM public key ends with an END line")
	case bytes.HasPrefix(text, []byte("ssh-")), bytes.HasPrefix(text, []byte("ecdsa-")), bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")), notDER == nil:
		return nil, "", errors.New("is not in a form that is read here: convert the public key to PEM, with BEGIN PUBLIC KEY")
	case len(secret) < leastSecret:
		return nil, "", fmt.Errorf("holds a secret of %d bytes: HS256 wants at least %d, such as from `openssl rand -hex 32`", len(secret), leastSecret)
	}
	return secret, jwt.SigningMethodHS256.Alg(), nil
}

func parsePublicKey(block *pem.Block) (key any, method string, err error) {
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, "", fmt.Errorf("holds a %s: a PUBLIC KEY is wanted", block.Type)
	}
	if err != nil {
		return nil, "", fmt.Errorf("holds a public key that cannot be read: %w", err)
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < leastRSA {
			return nil, "", fmt.Errorf("holds an RSA key of %d bits: at least %d are wanted", bits, leastRSA)
		}
		return key, jwt.SigningMethodRS256.Alg(), nil
	case ed25519.PublicKey:
		return key, jwt.SigningMethodEdDSA.Alg(), nil
	case *ecdsa.PublicKey:
		for _, m := range []*jwt.SigningMethodECDSA{jwt.SigningMethodES256, jwt.SigningMethodES384, jwt.SigningMethodES512} {
			if k.Curve.Params().BitSize == m.CurveBits {
				return key, m.Alg(), nil
			}
		}
	}
	return nil, "", errors.New("holds a public key of another kind: RSA, ECDSA on P-256, P-384 or P-521, or Ed25519 is wanted")
}

// Verify reads a token. The error is ErrExpired if nothing else is wrong with it. A token
// that is not remembered is verified within a call of do, since that takes time. do may
// refuse that with an error.
func (v *Verifier) Verify(token string, do func(work func()) error) (Identity, error) {
	if v == nil || len(token) > longestToken || strings.Count(token, ".") != 2 {
		return Identity{}, errInvalid
	}
	sum := sha256.Sum256([]byte(token))
	known, ok := v.verified.Get(sum)
	if !ok {
		var wrong error
		refused := do(func() { known, wrong = v.verify(token) })
		if err := cmp.Or(refused, wrong); err != nil {
			return Identity{}, err
		}
		v.verified.Add(sum, known)
	}
	if !v.now().Before(known.expires) {
		return Identity{}, ErrExpired
	}
	return known.Identity, nil
}

func (v *Verifier) verify(token string) (verified, error) {
	claims := jwt.MapClaims{}
	parsed, err := v.parser.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return v.key, nil })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return verified{}, ErrExpired
	case err != nil:
		return verified{}, errInvalid
	}
	if _, critical := parsed.Header["crit"]; critical {
		return verified{}, errInvalid // it demands what this package does not know (RFC 7515, section 4.1.11)
	}
	if !v.clearlyNamed(token) {
		return verified{}, errInvalid
	}
	id := verified{}
	id.Tenant, _ = claims[v.claim].(string)
	access, limited := claims["access"]
	id.ReadOnly = access == "read"
	if id.Tenant == "" || limited && access != "read" && access != "read-write" {
		return verified{}, errInvalid
	}
	issued, err := claims.GetIssuedAt()
	if err != nil {
		return verified{}, errInvalid
	}
	if issued != nil {
		id.IssuedAt = issued.Time
	}
	expires, err := claims.GetExpirationTime()
	if err != nil || expires == nil {
		return verified{}, errInvalid
	}
	id.expires = expires.Time
	return id, nil
}

// clearlyNamed says whether no claim of a token, which is good otherwise, stands there
// twice, or has the name of one that counts here in another case. With "Access" in the
// place of "access", the token would allow what its issuer wanted to forbid.
func (v *Verifier) clearlyNamed(token string) bool {
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		return false
	}
	claims, _ := strictjson.Fields(text)
	seen := map[string]bool{}
	for _, claim := range claims {
		for _, ours := range []string{v.claim, "access", "exp", "nbf", "iat"} {
			if claim.Name != ours && strings.EqualFold(claim.Name, ours) {
				return false
			}
		}
		if seen[claim.Name] {
			return false
		}
		seen[claim.Name] = true
	}
	return true
}
