package object

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/journal"
)

var update = flag.Bool("update", false, "write the golden files anew")

func someHash(text string) Hash {
	_, h, _ := EncodeFile([]byte(text)) // the hash alone is wanted
	return h
}

func mutation(op journal.Op, text string) journal.Mutation {
	return journal.Mutation{File: "notes.phext", Op: op, At: phext.Coordinate{1, 2, 3, 4, 5, 6, 7, 8, 9}, Text: text, Tenant: "acme/1", Key: "k1", Note: "n", Idempotency: "i", Digest: "d", Answer: "a"}
}

// examples has an object of each kind.
func examples() map[string]content {
	return map[string]content{
		"log": &Log{Epoch: 7, Host: "alpha", Incarnation: "run-1", Nonce: "nonce-1", Time: 1795867200000000000, Groups: []Group{
			{Time: 1795867199000000000, Mutations: []journal.Mutation{mutation(journal.Update, "new text"), mutation(journal.Insert, strings.Repeat("more ", 100))}, After: FileState{true, 512, [16]byte{1, 2, 3}}},
			{Time: -1, Mutations: []journal.Mutation{mutation(journal.Remove, "")}},
		}},
		"epoch": &Log{Epoch: 8, Opens: true, Of: "acme/1", Host: "beta", Incarnation: "run-2", Nonce: "nonce-2", Time: 1795867200000000001},
		"checkpoint": &Checkpoint{Seq: 41, Epoch: 8, Of: "acme/1", Time: 1795867200000000002,
			Files:   []File{{"a <b>.phext", someHash("a"), 1}, {"notes.phext", someHash("notes"), 5}},
			Answers: []Answer{{1795867200000000000, "acme/1", "i", "d", "a\x17b"}}, Calls: []CallCounts{{"acme/1", "2026-11-28", 12, 3}}},
		"owner":   &Owner{"alpha", "run-1", 7, ""},
		"next":    &Owner{"", "", 7, "beta"},
		"host":    &Host{"alpha", "https://alpha:8444", "run-1", 12, "ab12", "1.2.3", true, 25},
		"tenants": &Tenants{"service-1", 3, map[string]uint64{"run-1": 3, "run-2": 1}, map[string]json.RawMessage{"acme": json.RawMessage(`{"enabled":true,"key_sha256":"<ab>"}`), "zeta": json.RawMessage(`{}`)}},
	}
}

func decodeLike(v content, b []byte) (content, error) {
	switch v.(type) {
	case *Log:
		return pointer[Log](b)
	case *Checkpoint:
		return pointer[Checkpoint](b)
	case *Owner:
		return pointer[Owner](b)
	case *Host:
		return pointer[Host](b)
	}
	return pointer[Tenants](b)
}

func pointer[T any, P contentOf[T]](b []byte) (content, error) {
	v, err := Decode[T, P](b)
	return P(&v), err
}

// TestGolden sees that what stands in buckets can still be read, and that the same
// payload would be written today. The compression may change.
func TestGolden(t *testing.T) {
	for name, want := range examples() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".sqb")
			now, err := Encode(want)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(path, now, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeLike(want, golden)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v, %v", got, err)
			}
			before, errBefore := unseal(want.kind(), golden)
			after, errAfter := unseal(want.kind(), now)
			if !bytes.Equal(before, after) || errBefore != nil || errAfter != nil {
				t.Errorf("the payload was %q, and is %q now; %v %v", before, after, errBefore, errAfter)
			}
		})
	}
	path, text := filepath.Join("testdata", "file.sqb"), []byte("a\x17text\xff")
	if *update {
		b, _, err := EncodeFile(text)
		if err := errors.Join(err, os.WriteFile(path, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeFile(golden, someHash(string(text))); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%q %v", got, err)
	}
}

// TestDamage changes each byte of each object, and cuts it everywhere.
func TestDamage(t *testing.T) {
	for name, v := range examples() {
		b, err := Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			for _, damaged := range [][]byte{b[:i], append(bytes.Clone(b[:i]), b[i+1:]...), flip(b, i)} {
				if got, err := decodeLike(v, damaged); err == nil {
					t.Errorf("%s, damaged at %d: %+v", name, i, got)
				}
			}
		}
		if _, err := decodeLike(v, append(bytes.Clone(b), 0)); err == nil {
			t.Errorf("%s with one byte more", name)
		}
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 0x40
	return b
}

func TestRefusals(t *testing.T) {
	b, err := Encode(&Owner{"alpha", "run-1", 7, ""})
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(b)
	newer[len(magic)] = newest(kindOwner) + 1
	next, err := Encode(&Owner{Epoch: 7, Next: "beta"})
	if err != nil {
		t.Fatal(err)
	}
	if next[len(magic)] == b[len(magic)] {
		t.Error("an earlier release would not know that it cannot read who is next")
	}
	for _, test := range []struct {
		name string
		b    []byte
		want error
	}{
		{"a newer version", newer, ErrVersion},
		{"nothing", nil, ErrFormat},
		{"something else", []byte("<html>"), ErrFormat},
		{"cut", b[:len(b)-1], ErrDamaged},
		{"only the head", b[:len(magic)+1], ErrDamaged},
		{"a long length", resealed(kindOwner, binary.AppendUvarint(nil, 1<<60), nil), ErrDamaged},
		{"a wrong length", resealed(kindOwner, binary.AppendUvarint(nil, 100<<20), []byte(`{}`)), ErrDamaged},
		{"a later field in an earlier version", sealed(t, `{"host":"","incarnation":"","epoch":7,"next":"beta"}`+"\n"), ErrDamaged},
		{"an unknown field", sealed(t, `{"host":"","incarnation":"","epoch":1,"x":1}`+"\n"), ErrDamaged},
		{"a field twice", sealed(t, `{"host":"","host":"","incarnation":"","epoch":1}`+"\n"), ErrDamaged},
		{"a field in capitals", sealed(t, `{"Host":"","incarnation":"","epoch":1}`+"\n"), ErrDamaged},
		{"a field less", sealed(t, `{"host":"","epoch":1}`+"\n"), ErrDamaged},
		{"something behind it", sealed(t, `{"host":"","incarnation":"","epoch":1}`+"\n{}\n"), ErrDamaged},
	} {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := Decode[Owner](test.b)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, test.want) {
				t.Errorf("%+v, %v", got, err)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
				t.Errorf("%d bytes were allocated for %d", n, len(test.b))
			}
		})
	}
	if _, err := Decode[Host](b); !errors.Is(err, ErrKind) {
		t.Error("another kind:", err)
	}
	other, _, err := EncodeFile([]byte("other"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeFile(other, someHash("text")); !errors.Is(err, ErrDamaged) {
		t.Error("another text:", err)
	}
}

func sealed(t *testing.T, payload string) []byte {
	b, err := seal(kindOwner, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// resealed makes an object with a right checksum around a length and a frame that
// may be wrong.
func resealed(k kind, size, payload []byte) []byte {
	z, err := compressor()
	if err != nil {
		panic(err)
	}
	b := append(append([]byte(magic), version, byte(k)), size...)
	b = z.EncodeAll(payload, b)
	sum := xxh3.Hash128(b).Bytes()
	return append(b, sum[:]...)
}

// TestTenantShard has what stands in buckets.
func TestTenantShard(t *testing.T) {
	for id, want := range map[string]int{"acme": 2, "will": 12} {
		if got := TenantShard(id); got != want {
			t.Errorf("%s is in %d, and was in %d", id, got, want)
		}
	}
	count := map[int]int{}
	for i := range 1600 {
		count[TenantShard(fmt.Sprint("tenant-", i))]++
	}
	for n := range TenantShards {
		if count[n] < 50 || count[n] > 200 {
			t.Errorf("shard %d has %d tenants of 1600", n, count[n])
		}
	}
}

func TestWhatIsNotEncoded(t *testing.T) {
	bad, other := mutation(journal.Update, ""), mutation(journal.Update, "")
	bad.File, other.File = "../out", "other.phext"
	for name, v := range map[string]content{
		"an epoch with groups":        &Log{Opens: true, Groups: []Group{{Mutations: []journal.Mutation{mutation(journal.Update, "")}}}},
		"a group of nothing":          &Log{Groups: []Group{{}}},
		"a group of two files":        &Log{Groups: []Group{{Mutations: []journal.Mutation{mutation(journal.Update, ""), other}}}},
		"a file that leads out":       &Log{Groups: []Group{{Mutations: []journal.Mutation{bad}}}},
		"unsorted files":              &Checkpoint{Files: []File{{Name: "b"}, {Name: "a"}}},
		"a file twice":                &Checkpoint{Files: []File{{Name: "a"}, {Name: "a"}}},
		"a name that is not UTF-8":    &Checkpoint{Files: []File{{Name: "caf\xe9"}}},
		"a tenant that is none":       &Tenants{ByID: map[string]json.RawMessage{"a": json.RawMessage("{")}},
		"a service that is not UTF-8": &Tenants{Service: "caf\xe9"},
	} {
		if b, err := Encode(v); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
}

var (
	anyText  = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "<&>", "\x17\x18", "\u2028", strings.Repeat("x", 300)}))
	anyInt   = rapid.Int64()
	anyBytes = rapid.OneOf(anyText, rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
)

var anyMutation = rapid.Custom(func(t *rapid.T) (m journal.Mutation) {
	m.Op = journal.Op(rapid.IntRange(int(journal.Insert), int(journal.Remove)).Draw(t, "op"))
	for i := range m.At {
		m.At[i] = rapid.Uint32().Draw(t, "at")
	}
	for _, s := range []*string{&m.Text, &m.Tenant, &m.Key, &m.Note, &m.Idempotency, &m.Digest, &m.Answer} {
		*s = anyBytes.Draw(t, "text")
	}
	return m
})

var anyGroup = rapid.Custom(func(t *rapid.T) Group {
	g := Group{Time: anyInt.Draw(t, "time"), Mutations: rapid.SliceOfN(anyMutation, 1, 4).Draw(t, "mutations")}
	file := rapid.SampledFrom([]string{"a.phext", "caf\xe9.phext", "x"}).Draw(t, "file")
	for i := range g.Mutations {
		g.Mutations[i].File = file
	}
	g.After.Exists, g.After.Size = rapid.Bool().Draw(t, "exists"), anyInt.Draw(t, "size")
	copy(g.After.Sum[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "sum"))
	return g
})

func TestRoundTrip(t *testing.T) {
	check := func(t *rapid.T, v content) {
		b, err := Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeLike(v, b); err != nil || !reflect.DeepEqual(got, v) {
			t.Fatalf("%+v, want %+v; %v", got, v, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		l := &Log{Epoch: rapid.Uint64().Draw(t, "epoch"), Of: anyBytes.Draw(t, "of"), Host: anyBytes.Draw(t, "host"), Incarnation: anyBytes.Draw(t, "run"), Nonce: anyBytes.Draw(t, "nonce"), Time: anyInt.Draw(t, "time")}
		if l.Opens = rapid.Bool().Draw(t, "opens"); !l.Opens {
			l.Groups = rapid.SliceOfN(anyGroup, 1, 3).Draw(t, "groups")
		}
		check(t, l)
	})
	rapid.Check(t, func(t *rapid.T) {
		c := &Checkpoint{Seq: 1 << 60, Epoch: rapid.Uint64().Draw(t, "epoch"), Of: anyText.Draw(t, "of"), Time: anyInt.Draw(t, "time")}
		for _, name := range []string{"a", "b", "c<", "é"} {
			if rapid.Bool().Draw(t, "there") {
				c.Files = append(c.Files, File{name, someHash(anyBytes.Draw(t, "text")), anyInt.Draw(t, "size")})
			}
		}
		for range rapid.IntRange(0, 3).Draw(t, "answers") {
			c.Answers = append(c.Answers, Answer{anyInt.Draw(t, "time"), anyText.Draw(t, "tenant"), anyText.Draw(t, "key"), anyText.Draw(t, "digest"), anyText.Draw(t, "answer")})
			c.Calls = append(c.Calls, CallCounts{anyText.Draw(t, "tenant"), anyText.Draw(t, "day"), anyInt.Draw(t, "calls"), anyInt.Draw(t, "last")})
		}
		check(t, c)
		check(t, &Owner{anyText.Draw(t, "host"), anyText.Draw(t, "run"), rapid.Uint64().Draw(t, "epoch"), anyText.Draw(t, "next")})
		check(t, &Host{anyText.Draw(t, "name"), anyText.Draw(t, "url"), anyText.Draw(t, "run"), rapid.Uint64().Draw(t, "counter"), anyText.Draw(t, "print"), anyText.Draw(t, "version"), rapid.Bool().Draw(t, "draining"), rapid.Int().Draw(t, "load")})
		tenants := &Tenants{anyText.Draw(t, "service"), rapid.Uint64().Draw(t, "revision"), map[string]uint64{anyText.Draw(t, "writer"): 7}, map[string]json.RawMessage{}}
		for _, id := range rapid.SliceOf(anyText).Draw(t, "ids") {
			tenants.ByID[id] = json.RawMessage(`{"admin_email":"<&>\u2028"}`)
		}
		check(t, tenants)
		text := anyBytes.Draw(t, "file")
		b, h, err := EncodeFile([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeFile(b, h); err != nil || string(got) != text {
			t.Fatalf("%q, want %q; %v", got, text, err)
		}
	})
}

// FuzzDecode decodes any payload behind a right checksum. What is accepted is
// encoded to the same payload again.
func FuzzDecode(f *testing.F) {
	for _, v := range examples() {
		payload, err := v.marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(v.kind()), payload)
	}
	f.Fuzz(func(t *testing.T, k byte, payload []byte) {
		b, err := seal(kind(k), payload)
		if err != nil {
			t.Fatal(err)
		}
		for _, like := range examples() {
			got, err := decodeLike(like, b)
			if err != nil {
				continue
			}
			if again, err := got.marshal(); err != nil || !bytes.Equal(again, payload) || got.kind() != kind(k) {
				t.Errorf("%q became %+v, and then %q, %v", payload, got, again, err)
			}
		}
	})
}

// FuzzUnseal unseals anything, also with a right checksum behind it.
func FuzzUnseal(f *testing.F) {
	for _, v := range examples() {
		b, err := Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:len(b)-sumSize])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := xxh3.Hash128(b).Bytes()
		for _, b := range [][]byte{b, append(bytes.Clone(b), sum[:]...)} {
			for k := kindLog; k <= kindFile; k++ {
				if payload, err := unseal(k, b); err == nil && len(payload) > PayloadMax {
					t.Errorf("%d bytes", len(payload))
				}
			}
		}
	})
}

// TestCopyFile reads files piece by piece: whole ones, each byte of one changed, and one
// that is cut off. What fails on the way is told from what is damaged.
func TestCopyFile(t *testing.T) {
	for _, text := range []string{"", "x", strings.Repeat("some text ", 100), strings.Repeat("0123456789abcdef", 1<<17), random(3 << 20)} {
		b, hash, err := EncodeFile([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range []io.Reader{bytes.NewReader(b), iotest.OneByteReader(bytes.NewReader(b)), iotest.DataErrReader(bytes.NewReader(b))} {
			var out strings.Builder
			if err := CopyFile(&out, in, hash); err != nil || out.String() != text {
				t.Errorf("%d bytes of %d, %v", out.Len(), len(text), err)
			}
		}
		if whole, err := DecodeFile(b, hash); err != nil || string(whole) != text {
			t.Errorf("%d bytes of %d at once, %v", len(whole), len(text), err)
		}
		if err := CopyFile(io.Discard, bytes.NewReader(b), someHash("another")); !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		if len(b) > 200 {
			continue
		}
		for i := range b {
			for _, damaged := range [][]byte{b[:i], append(bytes.Clone(b[:i]), b[i+1:]...), flip(b, i)} {
				if err := CopyFile(io.Discard, bytes.NewReader(damaged), hash); err == nil {
					t.Errorf("damaged at %d", i)
				}
			}
		}
		if err := CopyFile(io.Discard, bytes.NewReader(append(bytes.Clone(b), 0)), hash); err == nil {
			t.Error("one byte more")
		}
		broken := errors.New("broken")
		if err := CopyFile(io.Discard, io.MultiReader(bytes.NewReader(b[:len(b)-1]), iotest.ErrReader(broken)), hash); !errors.Is(err, broken) || errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
	}
}

func random(n int) string {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(b) // never fails
	return string(b)
}
