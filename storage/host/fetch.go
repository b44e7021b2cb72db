package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/replica"
)

// How much is fetched at a time, of all directories together; one has half of the places at
// most. What is in the bucket as it is to be is written to the disk piece by piece. Of the rest,
// fetchMemory bytes are in memory at a time, or one that is larger.
const (
	fetchesInBackground = 16
	fetchesAsked        = 32 // for which somebody waits
	looksInBackground   = 2  // at files here, which takes a processor
	fetchMemory         = 256 << 20
)

// Whatever the bucket does not give is asked for again for placeFor without letting go of the
// place, and with pauses for tryFor. Then whoever waits is told, and it goes on in the background.
const (
	placeFor   = time.Second
	fetchPause = 2 * time.Second
)

// fetching bounds what is fetched at a time.
type fetching struct {
	once              sync.Once
	background, asked *places
	looks, memory     *semaphore.Weighted
	logs              *replica.Memory
	running           sync.WaitGroup
}

// bounds is f when its bounds are set.
func (f *fetching) bounds() *fetching {
	f.once.Do(func() {
		f.background, f.asked = newPlaces(fetchesInBackground), newPlaces(fetchesAsked)
		f.looks, f.memory = semaphore.NewWeighted(looksInBackground), semaphore.NewWeighted(fetchMemory)
		f.logs = replica.NewMemory()
	})
	return f
}

// place waits for a place for the directory at a path.
func (f *fetching) place(ctx context.Context, path string, asked bool) (release func(), err error) {
	places := f.bounds().background
	if asked {
		places = f.asked
	}
	return places.take(ctx, path)
}

// room waits for memory. Whoever has some waits for no directory, and for no more of it.
func (f *fetching) room(ctx context.Context, bytes int64) (release func(), err error) {
	bytes = min(bytes, fetchMemory)
	if err := f.memory.Acquire(ctx, bytes); err != nil {
		return nil, err
	}
	return func() { f.memory.Release(bytes) }, nil
}

// fetch makes the files of a directory what a state says.
type fetch struct {
	*takeOver
	state   *replica.State
	journal *journal.Journal
	// unknown says that the journal cannot know a file that is not here.
	unknown bool
}

func (t *takeOver) newFetch(ctx context.Context, state *replica.State, m mark, known map[string]datadir.KnownFile) (*datadir.Fetch, error) {
	j, err := t.Journal.Of(t.d.Path)
	if err != nil {
		return nil, err
	}
	began, any, err := j.Began()
	if err != nil {
		return nil, err
	}
	state.TryFor(placeFor)
	f := &fetch{takeOver: t, state: state, journal: j, unknown: !any || !m.Since.IsZero() && !began.Before(m.Since)}
	sizes := make(map[string]int64, len(state.Files))
	for name, file := range t.names(state) {
		if _, here := known[name]; here {
			continue
		}
		if sizes[name] = -1; file.Exists() {
			sizes[name] = file.Size()
		}
	}
	whole := func() error { return t.editMark(t.dir.Name, m.Epoch, func(m *mark) { m.Whole = true }) }
	return datadir.NewFetch(ctx, &t.fetching.running, sizes, f.get, whole), nil
}

// get looks at a file, and fetches it if it is not what the log says.
func (f *fetch) get(ctx context.Context, name string, asked bool) (got datadir.Fetched, err error) {
	for end := time.Now().Add(tryFor); ; {
		got, err = f.try(ctx, name, asked)
		if !bucket.ShouldRetry(err) || time.Now().After(end) {
			return got, err
		}
		select {
		case <-ctx.Done():
			return got, ctx.Err()
		case <-time.After(fetchPause):
		}
	}
}

// try is get once.
func (f *fetch) try(ctx context.Context, name string, asked bool) (got datadir.Fetched, err error) {
	file := f.state.Files[name]
	release, err := f.fetching.place(ctx, f.d.Path, asked)
	if err != nil {
		return got, err
	}
	defer release()
	at, letGo, err := f.d.Hold()
	if err != nil {
		return got, err
	}
	known := func(err error) error { return fsutil.Named(err, at, f.d.Path) } // to the operator
	defer func() {
		if err = known(err); err != nil {
			letGo()
		}
	}()
	path := filepath.Join(at, name)
	now, id, err := f.look(ctx, path, asked)
	if err != nil {
		return got, err
	}
	unchanged := func() error {
		if again, err := f.Links.Identify(path); err != nil || again != id {
			return errors.Join(fmt.Errorf("%s was changed by somebody else", name), err)
		}
		return nil
	}
	if file.Is(now) {
		return datadir.Fetched{Discard: letGo, Place: func() (datadir.KnownFile, bool, error) {
			defer letGo()
			return datadir.KnownFile{ID: id, State: now.FileState}, false, known(unchanged())
		}}, nil
	}
	temp, want := "", datadir.KnownFile{}
	if file.Exists() {
		if temp, want.State, err = f.download(ctx, at, name); err != nil {
			return got, err
		}
	}
	discard := func() {
		if temp != "" {
			_ = os.Remove(temp) // recovery removes what stays
		}
		letGo()
	}
	return datadir.Fetched{Discard: discard, Place: func() (datadir.KnownFile, bool, error) {
		defer discard()
		if err := unchanged(); err != nil {
			return datadir.KnownFile{}, false, known(err)
		}
		if !now.Exists && f.unknown {
			if err = os.Rename(temp, path); err == nil {
				want.ID, err = f.Links.Identify(path)
			}
			return want, true, known(err)
		}
		giveBack, err := f.fetching.room(ctx, now.Size+file.Size())
		if err != nil {
			return want, false, err
		}
		defer giveBack()
		left, ok := f.left[name]
		want.ID, err = f.adopt(at, name, temp, file.Was(now) || ok && left == now.FileState)
		return want, true, known(err)
	}}, nil
}

// look says what a file here holds, without having it in memory.
func (f *fetch) look(ctx context.Context, path string, asked bool) (replica.Sums, fsutil.FileID, error) {
	if !asked {
		if err := f.fetching.looks.Acquire(ctx, 1); err != nil {
			return replica.Sums{}, fsutil.FileID{}, err
		}
		defer f.fetching.looks.Release(1)
	}
	return f.sumsOf(path)
}

// sumsOf says what a file here holds, without having it in memory.
func (t *takeOver) sumsOf(path string) (replica.Sums, fsutil.FileID, error) {
	in, id, err := t.Links.Open(path)
	if err != nil {
		return replica.Sums{}, fsutil.FileID{}, fsutil.IgnoreMissing(err)
	}
	sums, err := replica.ReadSums(in)
	return sums, id, errors.Join(err, in.Close())
}

// download writes a file as it is to be, under a name that is no phext's.
func (f *fetch) download(ctx context.Context, at, name string) (temp string, left object.FileState, err error) {
	if err := f.journal.MakeDataDir(at); err != nil { // a new machine has not even what it is in
		return "", left, err
	}
	out, err := os.CreateTemp(at, fsutil.Temporary+"*")
	if err != nil {
		return "", left, err
	}
	release, err := f.fetching.room(ctx, f.state.Files[name].Memory())
	if err == nil {
		left, err = f.state.WriteTo(ctx, name, out)
		release()
	}
	if err == nil {
		err = fsutil.SetModeAndOwner(out, filepath.Join(at, name), fsutil.NewFileMode)
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return "", left, errors.Join(err, os.Remove(out.Name()))
	}
	return out.Name(), left, nil
}

// adopt makes a file what temp is, or removes it if that is "", and the journal takes that
// down. A file that was never what the log says is ahead of it, and is set aside.
func (f *fetch) adopt(at, name, temp string, was bool) (id fsutil.FileID, err error) {
	now, err := journal.ReadState(f.Links, filepath.Join(at, name))
	if err != nil {
		return id, err
	}
	var want journal.State
	if temp != "" {
		text, err := os.ReadFile(temp)
		if err != nil {
			return id, err
		}
		want = journal.State{Text: string(text), Exists: true}
	}
	if now.Exists && !was {
		aside, err := f.journal.SetAside(name, now)
		if err != nil {
			return id, err
		}
		f.Logger.Warn("a phext here was not what the bucket says, and was set aside",
			slog.String(logkey.DataDir, f.d.Path), slog.String("file", name), slog.String("quarantine", aside), slog.Bool("acknowledged", f.behind))
	}
	return f.journal.Adopt(at, name, now, want, "as in the bucket")
}
