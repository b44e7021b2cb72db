package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/phext"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func anything(string) *memlimit.Reservation { return memlimit.Reserve() }

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := fsutil.Replace(path, text, 0o600, false); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c *Cache, path string) *Version {
	t.Helper()
	p, err := c.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func at(t *testing.T, text string) phext.Coordinate {
	t.Helper()
	c, err := phext.ParseCoordinate(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAPageIsTheFileAndIsParsedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.phext")
	c := New(1<<20, anything)
	if p := read(t, c, path); p.Exists() || p.Text() != "" || p.Scrolls(nil) != 1 {
		t.Errorf("of no file: %+v", p)
	}
	put(t, path, "one\x17two\x17\x17")
	p := read(t, c, path)
	if text, _ := p.Phext.Select(at(t, "1.1.1/1.1.1/1.1.2")); text != "two" || p.Text() != "one\x17two\x17\x17" {
		t.Errorf("%q in %q", text, p.Text())
	}
	if again := read(t, c, path); again != p {
		t.Error("a file that did not change was parsed again")
	}
	put(t, path, "three")
	if p := read(t, c, path); p.Text() != "three" {
		t.Errorf("after a change: %q", p.Text())
	}
	if s := c.Stats(); s.Misses != 3 || s.Hits != 1 || s.Versions != 1 {
		t.Errorf("%+v", s)
	}
}

func TestWhatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "n.phext")
	c := New(1<<20, anything)
	put(t, path, "caf\xe9")
	if _, err := c.Read(path); !errors.Is(err, ErrNotText) {
		t.Errorf("not UTF-8: %v", err)
	}
	if _, err := c.Read(dir); !errors.Is(err, fsutil.ErrNotRegular) {
		t.Errorf("a directory: %v", err)
	}
	if err := os.Truncate(path, Largest+1); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(path); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	put(t, path, "text")
	taken, small := memlimit.NewBudget(1<<10), memlimit.NewBudget(3)
	taken.Take(taken.Limit())
	if _, err := New(1, func(string) *memlimit.Reservation { return memlimit.Reserve(taken) }).Read(path); !errors.Is(err, ErrNoMemory) {
		t.Errorf("no room: %v", err)
	}
	if _, err := New(1, func(string) *memlimit.Reservation { return memlimit.Reserve(small) }).Read(path); !errors.Is(err, ErrTooManyScrolls) {
		t.Errorf("never any room: %v", err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	dir := t.TempDir()
	const limit = 64 << 10
	c := New(limit, anything)
	for i := range 100 {
		path := filepath.Join(dir, fmt.Sprint(i))
		put(t, path, strings.Repeat("x", 8<<10))
		read(t, c, path)
		if s := c.Stats(); s.Bytes > limit || s.Versions == 0 {
			t.Fatalf("after %d files: %+v", i+1, s)
		}
	}
	last, first := filepath.Join(dir, "99"), filepath.Join(dir, "0")
	before := c.Stats()
	read(t, c, last)
	read(t, c, first)
	if s := c.Stats(); s.Hits != before.Hits+1 || s.Misses != before.Misses+1 {
		t.Errorf("the last one read was not kept, or the first was: %+v, %+v", before, s)
	}
	huge := filepath.Join(dir, "huge")
	put(t, huge, strings.Repeat("x", 2*limit))
	read(t, c, huge)
	if s := c.Stats(); s.Versions < 2 {
		t.Errorf("a file that does not fit pushed the others out: %+v", s)
	}
	nothing := New(0, anything)
	if read(t, nothing, last).Size() != 8<<10 || nothing.Stats().Versions != 0 {
		t.Errorf("a cache of no size: %+v", nothing.Stats())
	}
}

// TestDeadTextIsLetGo updates one scroll again and again: of what it was,
// nothing may stay.
func TestDeadTextIsLetGo(t *testing.T) {
	p := NewVersion("start\x17other", fsutil.FileID{Size: 11})
	text := strings.Repeat("y", 1<<10)
	for range 1000 {
		p = p.With(phext.Origin(), text)
		if p.retained > 2*p.Size()+wasteful {
			t.Fatalf("%d bytes are kept for a page of %d", p.retained, p.Size())
		}
	}
	if p.Text() != text+"\x17other" {
		t.Errorf("%q", p.Text())
	}
	if p = p.With(phext.Origin(), "a\x17b"); p.Text() != "a\x17b\x17other" || p.Phext.Len() != 3 {
		t.Errorf("with a delimiter: %q, %d scrolls", p.Text(), p.Phext.Len())
	}
}

func TestFind(t *testing.T) {
	three := at(t, "1.1.1/1.1.1/1.1.3")
	for _, indexed := range []bool{false, true} {
		p := NewVersion("one\x17two", fsutil.FileID{Size: 7})
		if indexed {
			p.Indexed(nil)
		}
		if c, ok := p.Find("two", nil); !ok || c != at(t, "1.1.1/1.1.1/1.1.2") {
			t.Errorf("%v %v", c, ok)
		}
		q := p.With(three, "three")
		if indexed {
			q.Noted([]phext.Scroll{{At: three, Text: "three"}}, nil)
		}
		if c, ok := q.Find("three", nil); !ok || c != three {
			t.Errorf("%v %v", c, ok)
		}
		if _, ok := p.Find("three", nil); ok {
			t.Error("a name of a later state was found in the earlier one")
		}
		if _, ok := q.With(three, "").Find("three", nil); ok {
			t.Error("a name that is gone was found")
		}
	}
}

// TestNamesComeAndGo, many of them, and each version finds its own. What is kept of those that
// are gone is bounded.
func TestNamesComeAndGo(t *testing.T) {
	p := Missing()
	name := func(i int) phext.Scroll {
		return phext.Scroll{At: phext.Coordinate{999, 1, 1, 1, 1, 1, 1, 1 + uint32(i/900%900), 1 + uint32(i%900)}, Text: fmt.Sprint("name ", i)}
	}
	check := func(p *Version, from, to int) {
		t.Helper()
		for _, i := range []int{from - 1, from, (from + to) / 2, to - 1, to} {
			c, ok := p.Find(name(i).Text, nil)
			if is := from <= i && i < to; ok != is || ok && c != name(i).At {
				t.Fatalf("%d of %d to %d: %v, %v", i, from, to, c, ok)
			}
		}
	}
	const alive, all = 1_000, 6_000
	for i := range all {
		changed := []phext.Scroll{name(i)}
		if i >= alive {
			changed = []phext.Scroll{{At: name(i - alive).At}, name(i)} // one goes
		}
		slices.SortFunc(changed, func(a, b phext.Scroll) int { return a.At.Compare(b.At) })
		before := p
		p = p.WithAll(changed, nil)
		p.ID = fsutil.FileID{Size: 1}
		p.Noted(changed, nil)
		check(p, max(0, i+1-alive), i+1)
		check(before, max(0, i-alive), i)
		if n := p.names.n; n > 2*p.Phext.Len()+sparePlaces {
			t.Fatalf("%d names, and %d places in the index", p.Phext.Len(), n)
		}
	}
	few := Missing()
	for i := range 2*alive - 1 {
		changed := name(i)
		if i >= alive { // all but one go
			changed = phext.Scroll{At: name(i - alive).At}
		}
		few = few.WithAll([]phext.Scroll{changed}, nil)
		few.ID = fsutil.FileID{Size: 1}
		few.Noted([]phext.Scroll{changed}, nil)
	}
	for _, p := range []*Version{p, few} {
		room := int64(0)
		for _, part := range p.names.parts {
			room += int64(cap(part)) * int64(unsafe.Sizeof(place{}))
		}
		if counted := p.indexMemory(); counted < room {
			t.Errorf("%d bytes are counted of %d for %d names", counted, room, p.Phext.Len())
		}
	}
	longest := 0
	for _, part := range p.names.parts {
		longest = max(longest, len(part))
	}
	if longest > 8*perPart {
		t.Errorf("%d places are looked through for a name", longest)
	}
}

// TestANameThatComesAndGoes is looked for at a few places, at the latest of them, however often it came: at one
// coordinate, or at another each time.
func TestANameThatComesAndGoes(t *testing.T) {
	for _, moves := range []uint32{1, 900} {
		p, last := Missing(), phext.Scroll{}
		for i := range uint32(1_000) {
			last = phext.Scroll{At: phext.Coordinate{999, 1, 1, 1, 1, 1, 1, 1 + i/900, 1 + i%moves}, Text: "name"}
			p = Missing().WithAll([]phext.Scroll{last}, nil).sharing(p)
			p.Noted([]phext.Scroll{last}, nil)
		}
		if at, ok := p.Find("name", nil); !ok || at != last.At {
			t.Errorf("%v, %v", at, ok)
		}
		if p.names.n > mostPlaces {
			t.Errorf("%d places", p.names.n)
		}
	}
}

// sharing has the version share the index of the one before, as one that With has made does.
func (p *Version) sharing(before *Version) *Version {
	p.names = before.names
	return p
}

// TestNamesAreIndexedPieceByPiece when their file is read, and counted before: nobody waits for that in
// a turn, or behind a lock.
func TestNamesAreIndexedPieceByPiece(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.names.phext")
	const names = 50_000
	var text strings.Builder
	for i := range names {
		fmt.Fprintf(&text, "n%d%c", i, map[bool]rune{true: 0x18, false: 0x17}[i%500 == 499])
	}
	put(t, path, text.String())
	budget := memlimit.NewBudget(1 << 30)
	c := New(1<<30, func(string) *memlimit.Reservation { return memlimit.Reserve(budget) })
	v := read(t, c, path)
	if v.names == nil || v.names.n != names {
		t.Fatal("there is no index")
	}
	if all := c.Stats().Bytes; all < v.Phext.Memory()+names*40 {
		t.Errorf("%d bytes are counted", all)
	}
	worked, largest := 0, 0
	newIndex(v.Phext, func(bytes int) { worked, largest = worked+bytes, max(largest, bytes) })
	if worked < names*perPlace || largest > perPlace {
		t.Errorf("%d bytes of work, at most %d at once", worked, largest)
	}
	tight := memlimit.NewBudget(v.Memory() - names*40)
	c = New(1<<30, func(string) *memlimit.Reservation { return memlimit.Reserve(tight) })
	if _, err := c.Read(path); !errors.Is(err, ErrTooManyScrolls) {
		t.Errorf("without memory for the index: %v", err)
	}
}

// TestReadersSeeWholeStatesOnly writes a file as SQ does, in place and in
// steps, while others read it.
func TestReadersSeeWholeStatesOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.phext")
	put(t, path, strings.Repeat("0", 4096))
	c := New(0, anything) // every read that is not held comes from the disk
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				p, err := c.Read(path)
				if err != nil {
					t.Error(err)
					return
				}
				if text := p.Text(); len(text) != 4096 || strings.Trim(text, text[:1]) != "" {
					t.Errorf("a torn read of %d bytes: %.20q", len(text), text)
					return
				}
			}
		})
	}
	for round := range 300 {
		before := read(t, c, path)
		h := c.Freeze(map[string]*Version{path: before})
		text := strings.Repeat(string(rune('a'+round%26)), 4096)
		writeInSteps(t, path, text)
		if seen := read(t, c, path); seen != before {
			t.Error("a held file was read")
		}
		h.Publish(map[string]*Version{path: NewVersion(text, identity(t, path))})
		if seen := read(t, c, path); seen.Text() != text {
			t.Errorf("after the end: %.20q, want %.20q", seen.Text(), text)
		}
	}
	close(stop)
	readers.Wait()
}

func writeInSteps(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for len(text) > 0 {
		if _, err := f.WriteString(text[:512]); err != nil {
			t.Fatal(err)
		}
		text = text[512:]
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func identity(t *testing.T, path string) fsutil.FileID {
	t.Helper()
	id, err := fsutil.Identify(path)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// All files that are not there read as one page: what is written where there
// was none must not be found in another.
func TestPagesOfNoFileShareNoNames(t *testing.T) {
	c, dir, first := New(1<<20, anything), t.TempDir(), at(t, "999.1.1/1.1.1/1.1.1")
	one := read(t, c, filepath.Join(dir, "a.names.phext"))
	if _, found := one.Find("memory", nil); found {
		t.Error("a name in no file")
	}
	next := one.With(first, "memory")
	next.Noted([]phext.Scroll{{At: first, Text: "memory"}}, nil)
	if got, found := next.Find("memory", nil); !found || got != first {
		t.Errorf("%v, %v", got, found)
	}
	later := read(t, c, filepath.Join(dir, "b.names.phext")).With(first, "other")
	later.Noted([]phext.Scroll{{At: first, Text: "other"}}, nil)
	if _, found := later.Find("memory", nil); found {
		t.Error("another file's name")
	}
	if got, found := later.Find("other", nil); !found || got != first {
		t.Errorf("%v, %v", got, found)
	}
}

// A file that is away for a moment, while it is written, is not seen to be away.
func TestNoFileIsNotSeenDuringAWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.phext")
	put(t, path, "before")
	c := New(1<<20, anything)
	before := map[string]*Version{path: read(t, c, path)}
	_, begun := c.frozenVersion(path, published) // a reader has begun, and looks while the file is away
	c.Freeze(before).Publish(before)
	if p := c.known(path, published, fsutil.FileID{}, begun); p != nil {
		t.Errorf("it reads as %q", p.Text())
	}
}

// TestWhatIsNotKeptCountsWhileItIsUsed: a version that does not fit into the cache takes
// memory until nobody has it, and one reader after the other finds room.
func TestWhatIsNotKeptCountsWhileItIsUsed(t *testing.T) {
	path, other := filepath.Join(t.TempDir(), "n.phext"), filepath.Join(t.TempDir(), "n.phext")
	put(t, path, strings.Repeat("x", 1<<20))
	put(t, other, strings.Repeat("y", 1<<20))
	room := memlimit.NewBudget(3 << 19)
	c := New(1<<10, func(string) *memlimit.Reservation { return memlimit.Reserve(room) })
	room.OnShortage(c.Collect)
	for range 4 {
		p := read(t, c, path)
		if read(t, c, path) != p {
			t.Error("the file is in memory twice")
		}
		if _, err := c.Read(other); !errors.Is(err, ErrNoMemory) {
			t.Fatalf("while one is used, another is read: %v", err)
		}
		runtime.KeepAlive(p)
	}
}

// TestWhatIsInUseIsNotReadAgain: the cache takes back a version that it has let go of, but
// not the answers that were kept in it.
func TestWhatIsInUseIsNotReadAgain(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "n.phext"), filepath.Join(dir, "other.phext")
	put(t, path, strings.Repeat("x", 2*worthSharing))
	put(t, other, strings.Repeat("y", 2*worthSharing))
	c := New(3*worthSharing, anything)
	p := read(t, c, path)
	if _, err := c.Answer(path, p, p, Toc, func() (*Rendered, error) { return &Rendered{Text: "toc"}, nil }); err != nil {
		t.Fatal(err)
	}
	read(t, c, other)
	if s := c.Stats(); s.Evictions != 1 || p.keptOf(Toc).answer != nil {
		t.Errorf("it has not left with its answers: %+v", s)
	}
	if read(t, c, path) != p || c.Stats().Misses != 2 || c.Stats().Versions != 1 {
		t.Errorf("the file is in memory twice: %+v", c.Stats())
	}
	read(t, c, other)
	put(t, path, strings.Repeat("z", 2*worthSharing))
	if read(t, c, path) == p {
		t.Error("it is another file")
	}
	runtime.KeepAlive(p)
}

// TestTheDirectoryThatWasReadIsChecked, and not the one that has come into its place meanwhile.
func TestTheDirectoryThatWasReadIsChecked(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "dir")
	for path, text := range map[string]string{dir: "others", dir + ".own": "own"} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(path, "n.phext"), text)
	}
	others := errors.New("another's")
	was, exchanged := fsutil.NodeOf(dir), false
	c := New(1<<20, anything)
	c.Check = func(_, at string, _ fsutil.FileID) error {
		if !exchanged { // it is put right
			exchanged = true
			if err := errors.Join(os.Rename(dir, dir+".others"), os.Rename(dir+".own", dir)); err != nil {
				t.Error(err)
			}
		}
		if fsutil.NodeOf(at) == was {
			return others
		}
		return nil
	}
	if v, err := c.Read(filepath.Join(dir, "n.phext")); !errors.Is(err, others) {
		t.Errorf("%v, %v", v, err)
	}
	if v := read(t, c, filepath.Join(dir, "n.phext")); v.Text() != "own" {
		t.Errorf("%q", v.Text())
	}
}
