package reader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/turnstest"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/journal"
)

// answered is what list and search answer.
type answered struct {
	Count, Total int
	Coordinates  []string
	Scrolls      []struct {
		Coordinate, Phext string
		SizeBytes         int `json:"size_bytes"`
		Modified          time.Time
	}
	Results []struct {
		Coordinate, Snippet, Content, Phext string
		Score                               float64
	}
}

func (w *world) ask(op, query string) (list answered) {
	w.Helper()
	a, err := w.read(op, query)
	w.check(err)
	defer a.Release()
	w.check(json.Unmarshal([]byte(a.Text), &list))
	if a.ETag != etag.Of(a.Text) || list.Count != len(list.Scrolls)+len(list.Results) {
		w.Errorf("%s %s: %s %s", op, query, a.ETag, a.Text)
	}
	return list
}

func (l answered) found() (all []string) {
	for _, r := range l.Results {
		all = append(all, r.Coordinate)
	}
	return all
}

func (w *world) putScrolls(file string, texts ...string) {
	w.Helper()
	var all []phext.Scroll
	for i := 0; i < len(texts); i += 2 {
		at, err := phext.ParseCoordinate(texts[i])
		w.check(err)
		all = append(all, phext.Scroll{At: at, Text: texts[i+1]})
	}
	w.put(file, phext.Of(all).Render())
}

// TestList has names of both kinds among numbers, and several pages.
func TestList(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.putScrolls("notes.phext", "1.1.1", "one", "1.1.10", "ten", "2.1.1", "far", "999.1.1/1.1.1/1.1.1", "b", "999.1.1/1.1.1/1.1.2", "a", "999.1.1/1.1.1/1.1.3", "date", "999.1.1/1.1.1/1.1.4", "c")
	w.putScrolls("notes.names.phext", "999.1.1/1.1.1/1.1.1", "b.10", "999.1.1/1.1.1/1.1.2", "b.9", "999.1.1/1.1.1/1.1.3", "1.1.1/1.1.1/1.1.0", "999.1.1/1.1.1/1.1.4", "2.1.1/a.1.1")
	want := []string{"1.1.1/1.1.1/1.1.0", "1.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.10", "2.1.1/1.1.1/1.1.1", "2.1.1/a.1.1", "b.9", "b.10"}
	all := w.ask("list", "")
	if !slices.Equal(all.Coordinates, want) || all.Total != len(want) || all.Scrolls[6].SizeBytes != 1 || time.Since(all.Scrolls[0].Modified) > time.Hour {
		t.Errorf("%+v", all)
	}
	for page, want := range [][]string{1: want[:3], 2: want[3:6], 3: want[6:], 4: {}} {
		if page == 0 {
			continue
		}
		if got := w.ask("list", "limit=3&page="+string(rune('0'+page))); !slices.Equal(got.Coordinates, want) || got.Total != 7 || got.Coordinates == nil {
			t.Errorf("page %d: %+v", page, got)
		}
	}
	if got := w.ask("list", "p=none"); got.Total != 0 || got.Coordinates == nil || got.Scrolls == nil {
		t.Errorf("of a phext that is not there: %+v", got)
	}
	if _, err := os.Stat(w.path("none.phext")); !os.IsNotExist(err) {
		t.Errorf("a list has made a file: %v", err)
	}
	w.wantUsed(0)
}

// TestListOfAll has phexts that are the tenant's, one of which is being written, and
// files that are none.
func TestListOfAll(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.check(os.Remove(w.path("notes.phext")))
	if got := w.ask("list", "p=*"); got.Total != 0 {
		t.Errorf("%+v", got)
	}
	w.putScrolls("b.phext", "1.1.1", "in b")
	w.putScrolls("a.phext", "1.1.1", "in a", "999.1.1/1.1.1/1.1.1", "x")
	w.putScrolls("a.names.phext", "999.1.1/1.1.1/1.1.1", "a.name")
	w.putScrolls(".phext", "1.1.1", "in the unnamed one")
	w.put("a.phext.json", "[]")
	w.check(os.Mkdir(w.path("dir.phext"), 0o700))
	w.check(os.Symlink("/etc/passwd", w.path("link.phext")))
	var got []string
	for _, s := range w.ask("list", "p=*").Scrolls {
		got = append(got, s.Coordinate+" "+s.Phext)
	}
	if want := []string{origin + " ", origin + " a", origin + " b", "a.name a"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := w.ask("search", "p=*&q=IN"); len(got.Results) != 3 || got.Results[0].Phext == got.Results[1].Phext {
		t.Errorf("%+v", got)
	}
	// A phext in which nothing is found is not in memory while the next one is searched.
	const room = 1300        // bytes, which is enough for any one of the phexts, and not for three results
	w.Dirs.Cache.Taken = nil // the phexts stay in memory
	release := w.leaveMemory(room)
	if got := w.ask("search", "p=*&q=nowhere"); len(got.Results) != 0 {
		t.Errorf("%+v", got)
	}
	_, err := w.read("search", "p=*&q=in")
	w.wantError(err, apierror.Unavailable)
	release()
	call := w.call("list", "p=*")
	w.check(os.Rename(w.path("b.phext"), journal.BeforePath(w.path("b.phext")))) // as a write does it
	if phexts, err := w.dir.Phexts(t.Context(), call); err != nil || !slices.Equal(phexts, []string{"", "a", "b"}) {
		t.Errorf("during a write: %q, %v", phexts, err)
	}
	w.wantUsed(0)
}

const origin = "1.1.1/1.1.1/1.1.1"

func TestSearch(t *testing.T) {
	w := newWorld(t, 1<<20)
	long := strings.Repeat("äöü ", 100) + "the Needle (once)" + strings.Repeat(" ß€", 100)
	w.putScrolls("notes.phext", "1.1.1", "needle, NEEDLE and needle", "1.1.2", long, "1.1.3", "hay", "1.1.4", "needle and hay", "999.1.1/1.1.1/1.1.1", "a needle in docs")
	w.putScrolls("notes.names.phext", "999.1.1/1.1.1/1.1.1", "docs.x")
	at := func(n string) string { return "1.1.1/1.1.1/1.1." + n }
	for query, want := range map[string][]string{
		"q=needle":                 {at("1"), at("4"), "docs.x", at("2")},
		"q=needle&limit=1":         {at("1")},
		"q=needle&limit=2&page=2":  {"docs.x", at("2")},
		"q=hay+needle":             {at("4")},
		"q=%22needle+and%22":       {at("4"), at("1")},
		"q=(once)":                 {at("2")},
		"q=.*":                     nil,
		"q=ÄÖÜ":                    {at("2")},
		"q=needle&namespace=docs":  {"docs.x"},
		"q=needle&namespace=1.1.1": {at("1"), at("4"), at("2")},
		"q=nowhere":                nil,
	} {
		got := w.ask("search", query)
		if !slices.Equal(got.found(), want) || got.Results == nil {
			t.Errorf("%s: %q, want %q", query, got.found(), want)
		}
		score := 1.0
		for _, r := range got.Results {
			if r.Score <= 0 || r.Score > score || utf8.RuneCountInString(r.Snippet) > snippetLength || !strings.Contains(r.Content, r.Snippet) {
				t.Errorf("%s: %+v", query, r)
			}
			score = r.Score
		}
	}
	if got := w.ask("search", "q=needle&namespace=1.1.1").Results[2].Snippet; !strings.Contains(got, "Needle") {
		t.Errorf("the snippet is %q", got)
	}
	w.wantUsed(0)
}

// TestSearchesAreBounded in number, in time and in memory.
func TestSearchesAreBounded(t *testing.T) {
	w := newWorld(t, 1<<20)
	all := w.dir.Searches.Limit()
	w.dir.Searches.Take(all)
	_, err := w.read("search", "q=scroll")
	w.wantError(err, apierror.Unavailable)
	w.dir.Searches.Give(all)
	for cause, want := range map[error]error{errTooSlow: errTooSlow, context.Canceled: context.Canceled} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if _, err := w.Read(ctx, w.dir, w.call("search", "q=scroll"), false); !errors.Is(err, want) {
			t.Errorf("ended by %v: %v", cause, err)
		}
	}
	if !w.Dirs.Answers.Take(w.Dirs.Answers.Limit()) {
		t.Fatal("memory is reserved")
	}
	for _, op := range []string{"search", "list"} {
		_, err = w.read(op, "q=scroll")
		w.wantError(err, apierror.Unavailable)
	}
	_, err = w.read("query", "set=1.1.1/1.1.1/1.1.3")
	w.wantError(err, apierror.Unavailable)
	w.Dirs.Answers.Give(w.Dirs.Answers.Limit())
	if !w.dir.Searches.Take(w.dir.Searches.Limit()) {
		t.Error("a search that has ended counts")
	}
	w.wantUsed(0)
}

// TestNaturalOrder is an order, and that of coordinates for coordinates.
func TestNaturalOrder(t *testing.T) {
	sorted := []string{"1.1.1/1.1.1/1.1.0", "1.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.9", "1.1.1/1.1.1/1.1.10", "1.1.1/a", "2", "2.1", "99999999999999999998", "99999999999999999999", "A.1", "a", "a.1", "a.2", "a.10", "a.b"}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := compareNatural(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s, %s: %d", a, b, got)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		coordinate := rapid.Custom(func(t *rapid.T) (c phext.Coordinate) {
			for i := range c {
				c[i] = rapid.Uint32Range(1, 11).Draw(t, "number")
			}
			return c
		})
		a, b := coordinate.Draw(t, "a"), coordinate.Draw(t, "b")
		if got := compareNatural(a.String(), b.String()); got != a.Compare(b) {
			t.Fatalf("%v, %v: %d", a, b, got)
		}
	})
}

// TestAListKeepsWhatItShows: not all that there is, in memory or sorted. Others go first
// while it is found.
func TestAListKeepsWhatItShows(t *testing.T) {
	const n = 30_000
	w := newWorld(t, 16<<20)
	w.put("notes.phext", strings.Repeat(strings.Repeat("x\x17", n/50)+"\x18", 50))
	list := func(query string) (got answered) {
		call := w.call("list", query)
		turns := turnstest.Count(t, func(ctx context.Context) {
			a, err := w.Read(ctx, w.dir, call, false)
			w.check(err)
			defer a.Release()
			w.check(json.Unmarshal([]byte(a.Text), &got))
		})
		if want := n * perCompare / fairqueue.Piece; turns < want {
			t.Errorf("%s: %d turns, want %d", query, turns, want)
		}
		return got
	}
	all := list("limit=1000").Coordinates
	for page := 2; page <= n/1000; page++ {
		all = append(all, list(fmt.Sprint("limit=1000&page=", page)).Coordinates...)
	}
	if len(all) != n || !slices.IsSortedFunc(all, compareNatural) || len(slices.Compact(all)) != n {
		t.Errorf("%d scrolls", len(all))
	}
	if got := list("p=*&page=30").Coordinates; !slices.Equal(got, all[n-1000:]) {
		t.Errorf("of all phexts: %d scrolls, %.100q", len(got), got)
	}
	release := w.leaveMemory(5 << 20) // all would take more
	defer release()
	if got := w.ask("list", "limit=5"); got.Total != n || !slices.Equal(got.Coordinates, all[:5]) {
		t.Errorf("%+v", got)
	}
	if got := w.ask("list", "page=30"); got.Total != n || !slices.Equal(got.Coordinates, all[n-1000:]) {
		t.Errorf("the last page: %d of %d", got.Count, got.Total)
	}
	if got := w.ask("list", "page=1000"); got.Total != n || got.Count != 0 {
		t.Errorf("behind the last page: %d of %d", got.Count, got.Total)
	}
	_, err := w.read("list", "p=*&page=1000")
	w.wantError(err, apierror.Unavailable)
	a, err := w.read("query", "limit=3&from="+origin+"&to=999.1.1/1.1.1/1.1.1")
	w.check(err)
	a.Release()
	if got := strings.Count(a.Text, `"scroll"`); got != 3 {
		t.Errorf("%d entries", got)
	}
}

// TestAListOfAllKeepsAsMuchAsOfOne, however many phexts there are.
func TestAListOfAllKeepsAsMuchAsOfOne(t *testing.T) {
	const n = 1000
	w := newWorld(t, 16<<20)
	for i := range 6 {
		w.put(fmt.Sprint("p", i, ".phext"), strings.Repeat(strings.Repeat("x\x17", n/2)+"\x18", 2))
	}
	w.ask("list", "p=*")     // reads the phexts
	w.Dirs.Cache.Taken = nil // they stay in memory
	row := 2 * int64(unsafe.Sizeof(row{}))
	release := w.leaveMemory(4*n*row + 400*n) // for three times as many rows as one has, and the answer
	if got := w.ask("list", "p=*"); got.Count != n || got.Total != 6*n+1 {
		t.Errorf("%d of %d", got.Count, got.Total)
	}
	release()
	release = w.leaveMemory(2 * n * row) // what is kept counts all the same
	defer release()
	_, err := w.read("list", "p=*")
	w.wantError(err, apierror.Unavailable)
}

// TestPagesOfNamesAndNumbers are the same as parts of one page, of one phext and of all.
func TestPagesOfNamesAndNumbers(t *testing.T) {
	w := newWorld(t, 1<<20)
	var scrolls, names []string
	for i := range 40 {
		scrolls = append(scrolls, fmt.Sprintf("%d.1.1/1.1.1/1.1.1", i+1), "x")
	}
	for i, name := range []string{"b.1", "0.0.0/1.1.1/1.1.1", "20.1.1/1.1.1/1.1.0", "a.1", "999.1.1/1.1.1/2.1.1", "5.1.1/1.1.1/1.1.0"} {
		at := fmt.Sprintf("999.1.1/1.1.1/1.1.%d", i+1)
		scrolls, names = append(scrolls, at, "named"), append(names, at, name)
	}
	w.putScrolls("notes.phext", scrolls...)
	w.putScrolls("notes.names.phext", names...)
	all := w.ask("list", "p=*").Coordinates
	for limit := 1; limit < 50; limit++ {
		var pages []string
		for page := 1; page <= 1+len(all)/limit; page++ {
			pages = append(pages, w.ask("list", fmt.Sprint("limit=", limit, "&page=", page)).Coordinates...)
		}
		if len(all) != 46 || !slices.Equal(pages, all) {
			t.Fatalf("in pages of %d: %q, want %q", limit, pages, all)
		}
	}
}

// TestWhatIsKeptGrowsInTurns: the list that is kept is never allocated or copied as a whole.
func TestWhatIsKeptGrowsInTurns(t *testing.T) {
	const n = 30_000
	pauses := 0
	rows := first[row]{most: n, compare: compareRows, work: &work{pause: func() error { pauses++; return nil }}}
	for i := range n {
		rows.add(row{size: i})
	}
	if want := n * int(unsafe.Sizeof(row{})) / fairqueue.Piece; pauses < want-1 {
		t.Errorf("%d pauses, want %d", pauses, want)
	}
	few := func() {
		rows := first[row]{most: 3, compare: compareRows, work: &work{}}
		for i := range n {
			rows.add(row{at: phext.Coordinate{8: uint32(i)}})
		}
	}
	if got := testing.AllocsPerRun(1, few); got > 50 {
		t.Errorf("%v allocations for 3 rows of many", got)
	}
}
