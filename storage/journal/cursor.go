package journal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// A Position tells how much was written to a data directory, and when: more than a
// client may know, who may have a key for some scrolls, or share the directory. So it
// gets a Position sealed with a secret of the journal, and two seals of one Position
// differ. The secret lives where the positions do: another host, and a journal that is
// begun anew, have positions of their own.

// secretFile has the secret, in base64.
const secretFile = "cursor-secret"

// sealVersion is the first byte of a sealed Position, and positionSize the length of what
// is sealed, in bytes.
const (
	sealVersion  = 1
	positionSize = 32
)

// Cursors seals positions for one owner.
type Cursors struct {
	aead  cipher.AEAD
	bound []byte // has to be the same when a Position is unsealed
}

// Cursors are those of the journal for an owner, who can use no other's.
func (j *Journal) Cursors(owner string) (Cursors, error) {
	aead, err := j.positionSealer()
	return Cursors{aead, append([]byte{sealVersion}, owner...)}, err
}

// Seal returns p as a client may have it: text that fits into a header, of one length.
func (c Cursors) Seal(p Position) string {
	var plain [positionSize]byte
	for i, n := range []uint64{p.Segment, uint64(p.Created), uint64(p.Offset), p.Seq} {
		binary.LittleEndian.PutUint64(plain[8*i:], n)
	}
	return base64.RawURLEncoding.EncodeToString(c.aead.Seal([]byte{sealVersion}, nil, plain[:], c.bound))
}

// Unseal returns the Position that was sealed. The error is ErrBeyondHistory if that was
// not done by this journal for this owner.
func (c Cursors) Unseal(text string) (p Position, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) == 0 || b[0] != sealVersion {
		return p, ErrBeyondHistory
	}
	plain, err := c.aead.Open(nil, nil, b[1:], c.bound)
	if err != nil || len(plain) != positionSize {
		return p, ErrBeyondHistory
	}
	number := func(i int) uint64 { return binary.LittleEndian.Uint64(plain[8*i:]) }
	return Position{Segment: number(0), Created: int64(number(1)), Offset: int64(number(2)), Seq: number(3)}, nil
}

func (j *Journal) positionSealer() (cipher.AEAD, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.sealer != nil {
		return j.sealer, nil
	}
	secret, err := j.secretLocked()
	if err != nil {
		return nil, fmt.Errorf("the secret of the cursors of %s: %w", j.dataDir, err)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	j.sealer, err = cipher.NewGCMWithRandomNonce(block)
	return j.sealer, err
}

// secretLocked reads the secret. One that is not there, or not whole, is made: then no
// cursor of before counts.
func (j *Journal) secretLocked() ([]byte, error) {
	const size = 32
	path := filepath.Join(j.dir, secretFile)
	text, err := fsutil.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if secret, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text))); err == nil && len(secret) == size {
		return secret, nil
	}
	secret := make([]byte, size)
	_, _ = rand.Read(secret) // which never fails
	if err := makeDir(j.dir); err != nil {
		return nil, err
	}
	return secret, j.cfg.replace(path, strings.NewReader(base64.StdEncoding.EncodeToString(secret)+"\n"), 0o600, true)
}
