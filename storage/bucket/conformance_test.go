package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// TestConformance is what every implementation does alike.
func TestConformance(t *testing.T) {
	stores(t, func(t *testing.T, b Bucket) {
		ctx := t.Context()
		put := func(key, body string, c Condition, want error) string {
			t.Helper()
			etag, err := b.Put(ctx, key, []byte(body), c)
			if !errors.Is(err, want) || (err == nil) != (etag != "") {
				t.Fatalf("putting %s: %q, %v; want %v", key, etag, err, want)
			}
			return etag
		}
		get := func(key, etag, body string, want error) Object {
			t.Helper()
			o, err := b.Get(ctx, key, etag)
			if !errors.Is(err, want) || string(o.Body) != body {
				t.Fatalf("getting %s: %q, %v; want %q, %v", key, o.Body, err, body, want)
			}
			return o
		}
		get("x/one", "", "", ErrNotFound)
		put("x/one", "new", IfMatch(strings.Repeat("0", 32)), ErrPreconditionFailed)
		get("x/one", "", "", ErrNotFound)
		first := put("x/one", "first", IfAbsent(), nil)
		put("x/one", "second", IfAbsent(), ErrPreconditionFailed)
		if o := get("x/one", "", "first", nil); o.ETag != first {
			t.Errorf("put said %s, and get %s", first, o.ETag)
		}
		get("x/one", first, "", ErrNotModified)
		second := put("x/one", "second", IfMatch(first), nil)
		put("x/one", "third", IfMatch(first), ErrPreconditionFailed)
		get("x/one", first, "second", nil)
		get("x/one", second, "", ErrNotModified)
		put("x/one", "", Condition{}, nil)
		get("x/one", "", "", nil)
		put("x/two", "2", Condition{}, nil)
		get("x", "", "", ErrNotFound) // a part of other keys
		get("x/one/more", "", "", ErrNotFound)

		large := bytes.Repeat([]byte("0123456789abcdef"), 1<<20+1)
		put("x/large", string(large), IfAbsent(), nil)
		get("x/large", "", string(large), nil)
		in, err := b.Open(ctx, "x/large")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(in)
		if err = errors.Join(err, in.Close()); err != nil || !bytes.Equal(got, large) {
			t.Errorf("%d bytes piece by piece, %v", len(got), err)
		}
		for _, key := range []string{"x/none", "x"} {
			if _, err := b.Open(ctx, key); !errors.Is(err, ErrNotFound) {
				t.Errorf("opening %s: %v", key, err)
			}
		}

		for _, key := range []string{"x/one", "x/one", "not/there", "x"} {
			if err := b.Delete(ctx, key); err != nil {
				t.Error(key, err)
			}
		}
		get("x/one", "", "", ErrNotFound)
		get("x/two", "", "2", nil)
		put("x/one", "again", IfAbsent(), nil)
		if err := Probe(ctx, b); err != nil {
			t.Error(err)
		}
		if page, _, err := b.List(ctx, "probe/", "", 10); err != nil || len(page) > 0 {
			t.Errorf("left of the probe: %v %v", page, err)
		}
	})
}

func TestKeysThatAreRefused(t *testing.T) {
	stores(t, func(t *testing.T, b Bucket) {
		for _, key := range []string{"", "/", "a/", "/a", "a//b", "..", "../a", "a/../b", "a/./b", ".temp/x", "a/.b", "a b", "a\x00", "a\\b", "é", "a?b",
			strings.Repeat("a", partMax+1), strings.Repeat("a/", keyMax/2) + "a"} {
			_, errGet := b.Get(t.Context(), key, "")
			_, errPut := b.Put(t.Context(), key, nil, Condition{})
			for _, err := range []error{errGet, errPut, b.Delete(t.Context(), key)} {
				if !errors.Is(err, ErrKey) {
					t.Errorf("%q: %v", key, err)
				}
			}
		}
		if _, err := b.Put(t.Context(), "a", make([]byte, ObjectMax+1), Condition{}); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
	})
}

func TestEndedContext(t *testing.T) {
	stores(t, func(t *testing.T, b Bucket) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, errGet := b.Get(ctx, "a", "")
		_, errPut := b.Put(ctx, "a", nil, Condition{})
		_, _, errList := b.List(ctx, "", "", 1)
		for _, err := range []error{errGet, errPut, errList, b.Delete(ctx, "a")} {
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}

// TestList compares lists with those of a sorted slice, whatever the keys.
func TestList(t *testing.T) {
	stores(t, func(t *testing.T, b Bucket) {
		round := 0
		rapid.Check(t, func(t *rapid.T) {
			if round++; round > 25 {
				return // each has many requests
			}
			base := fmt.Sprintf("r%d/", round)
			keys := map[string]bool{}
			for range rapid.IntRange(0, 12).Draw(t, "objects") {
				parts := rapid.SliceOfN(rapid.StringMatching(`[a-c][-.0a_]?`), 1, 3).Draw(t, "key")
				keys[base+strings.Join(parts, "/")] = true
			}
			for key := range keys {
				for other := range keys {
					if strings.HasPrefix(other, key+"/") {
						delete(keys, key) // a directory cannot be a file too
					}
				}
			}
			sorted := slices.Sorted(maps.Keys(keys))
			for _, key := range sorted {
				if _, err := b.Put(context.Background(), key, []byte(key), Condition{}); err != nil {
					t.Fatal(err)
				}
			}
			prefix := base + rapid.SampledFrom([]string{"", "a", "a/", "b-", "c/a", "a0/b"}).Draw(t, "prefix")
			after := rapid.SampledFrom(append([]string{"", base + "a", base + "b/", base + "a-/z", "zzz"}, sorted...)).Draw(t, "after")
			limit := rapid.IntRange(1, 4).Draw(t, "limit")
			var got, want []string
			for _, key := range sorted {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			for more := true; more; {
				var page []Entry
				var err error
				if page, more, err = b.List(context.Background(), prefix, after, limit); err != nil || len(page) > limit {
					t.Fatal(page, err)
				}
				for _, e := range page {
					if e.Size != int64(len(e.Key)) || e.Modified.IsZero() {
						t.Fatalf("%+v", e)
					}
					after = e.Key
					got = append(got, e.Key)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%q, want %q", got, want)
			}
		})
	})
}

// TestRaces has 16 writers at a time for one object: one wins each race.
func TestRaces(t *testing.T) {
	stores(t, func(t *testing.T, b Bucket) {
		const writers, rounds = 16, 20
		race := func(key string, c Condition) {
			t.Helper()
			errs := make([]error, writers)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() {
					for errs[i] = ErrTemporary; errors.Is(errs[i], ErrTemporary); {
						_, errs[i] = b.Put(t.Context(), key, fmt.Appendf(nil, "of writer %d", i), c)
					}
				})
			}
			wg.Wait()
			winner := -1
			for i, err := range errs {
				switch {
				case err == nil && winner < 0:
					winner = i
				case err == nil:
					t.Fatalf("%d and %d both wrote %s", winner, i, key)
				case !errors.Is(err, ErrPreconditionFailed):
					t.Fatal(err)
				}
			}
			if o, err := b.Get(t.Context(), key, ""); err != nil || string(o.Body) != fmt.Sprintf("of writer %d", winner) {
				t.Fatalf("%d won, and there is %q %v", winner, o.Body, err)
			}
		}
		for round := range rounds {
			key := fmt.Sprintf("races/%d", round)
			race(key, IfAbsent())
			etag, err := b.Put(t.Context(), key, []byte("before"), Condition{})
			if err != nil {
				t.Fatal(err)
			}
			race(key, IfMatch(etag))
		}
	})
}
