package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"time"
)

// Identity is what this process shows other hosts: a certificate that it has made itself,
// and that is nowhere but in its memory. Its fingerprint stands in the bucket.
type Identity struct {
	Fingerprint string // SHA-256 of the certificate, in hexadecimal
	certificate tls.Certificate
}

// NewIdentity makes one. Nobody looks at the names or times in it.
func NewIdentity() (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sqgate"}, NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Identity{fingerprint(der), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}, nil
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

var errUnknownHost = errors.New("the certificate at the other end is none of a host in the bucket")

// config shows the identity, and lets in whoever has a certificate that isKnown.
//
// It is TLS 1.2, in which a caller learns that its certificate is refused before it sends
// anything. In TLS 1.3 it has sent its request by then, and could not know what became of
// it.
func (id *Identity) config(isKnown func(fingerprint string) bool) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{id.certificate},
		MinVersion:   tls.VersionTLS12, MaxVersion: tls.VersionTLS12,
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // there are no authorities and no names: VerifyConnection compares the certificate itself
		SessionTicketsDisabled: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) != 1 || !isKnown(fingerprint(c.PeerCertificates[0].Raw)) {
				return errUnknownHost
			}
			return nil
		},
	}
}
