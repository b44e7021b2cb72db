package reader

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// row is a scroll that list or search has found.
type row struct {
	at       phext.Coordinate
	name     string // or ""
	phext    string
	text     string  // of a search; a list does not keep the text in memory
	size     int     // of the text, in bytes
	modified int64   // of the phext's file, in nanoseconds
	snippet  string  // of a search
	score    float64 // of a search, 0 to 1
}

func (r *row) label() string {
	if r.name != "" {
		return r.name
	}
	return r.at.String()
}

// searchTimeout is the longest that one list or search looks through phexts.
const searchTimeout = 10 * time.Second

var errTooSlow = apierror.RetryIn(time.Minute, apierror.Unavailable,
	"it takes too long to look through all of this: name one phext with p, or a prefix")

// listing answers list and search. What it collects is counted as memory while it is
// collected, and the answer until it is sent. It is made in the turn that it can be
// sent in.
func (r *Reader) listing(ctx context.Context, d *datadir.Dir, call *rewrite.Call, gzip bool) (Answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, searchTimeout, errTooSlow)
	defer cancel()
	c := collection{d: d, call: call, turn: fairqueue.FromContext(ctx)}
	defer c.release()
	collect := c.list
	if call.Op == rewrite.Search {
		if !d.Searches.Take(1) {
			return Answer{}, datadir.ErrBusy
		}
		defer d.Searches.Give(1)
		collect = c.search
	}
	page, total, err := collect(ctx, d)
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errTooSlow):
		return Answer{}, errTooSlow
	case err != nil:
		return Answer{}, err
	}
	size := sizeOfListing(call, page)
	if err := c.admit(ctx, int64(size), datadir.View{}); err != nil {
		return Answer{}, err
	}
	text := answerListing(call, page, total, size)
	return r.once(ctx, d, call.Recipient, text, gzip)
}

// collection collects the entries of an answer from one phext or from several.
type collection struct {
	d    *datadir.Dir
	call *rewrite.Call
	turn *fairqueue.Turn
	held []func() // give memory back
}

// admit makes room beside a view.
func (c *collection) admit(ctx context.Context, bytes int64, v datadir.View) error {
	give, err := admit(ctx, c.d, bytes, v)
	if err == nil {
		c.held = append(c.held, give)
	}
	return err
}

// use counts a view as memory.
func (c *collection) use(v datadir.View) error {
	done, err := c.d.Use(v)
	if err == nil {
		c.held = append(c.held, done)
	}
	return err
}

// release gives all memory back.
func (c *collection) release() { c.releaseTo(0) }

func (c *collection) releaseTo(n int) {
	for _, give := range c.held[n:] {
		give()
	}
	c.held = c.held[:n]
}

// phexts are the names of those that the call is about.
func (c *collection) phexts(ctx context.Context, d *datadir.Dir) ([]string, error) {
	l := c.call.Listing
	if !l.Everywhere {
		return []string{c.call.Phext}, nil
	}
	return d.Phexts(ctx, c.call)
}

// list returns one page of all entries, and how many they are.
func (c *collection) list(ctx context.Context, d *datadir.Dir) (page []row, total int, err error) {
	phexts, err := c.phexts(ctx, d)
	if err != nil {
		return nil, 0, err
	}
	l := c.call.Listing
	rows := first[row]{most: l.Page * l.Limit, compare: compareRows, work: c.work(ctx)}
	scrolls := 0
	for _, name := range phexts {
		v, err := d.RecoveredView(ctx, c.call.Elsewhere(name))
		if err != nil {
			return nil, 0, err
		}
		if err := c.use(datadir.View{Names: v.Names}); err != nil { // rows have names
			return nil, 0, err
		}
		held := len(c.held)
		if err := c.use(datadir.View{Phext: v.Phext}); err != nil {
			return nil, 0, err
		}
		before := rows.room(scrolls)
		scrolls += v.Phext.Phext.Len()
		kept := rows.room(scrolls) - before // of all phexts, as many as of one
		if !l.Everywhere {
			kept = min(l.Limit, kept) + rows.room(v.Names.Phext.Len())
		}
		if err := c.admit(ctx, 2*int64(kept)*int64(unsafe.Sizeof(row{})), v); err != nil { // a short list that grows is there twice
			return nil, 0, err
		}
		n, err := c.addAll(ctx, &rows, name, v)
		if err != nil {
			return nil, 0, err
		}
		total += n
		if !l.Everywhere {
			page, err = c.pageOf(ctx, &rows, name, v)
			return page, total, err
		}
		c.held[held]() // the phext: what was admitted is for rows, which stay
		c.held = slices.Delete(c.held, held, held+1)
	}
	if err := c.turn.Take(ctx); err != nil {
		return nil, 0, err
	}
	sorted := rows.sort()
	for i := (l.Page - 1) * l.Limit; i < sorted.len; i++ {
		page = append(page, *sorted.at(i))
	}
	return page, total, rows.work.err
}

// work is for what is done in the turns of the request.
func (c *collection) work(ctx context.Context) *work {
	return &work{pause: func() error { return anotherTurn(ctx, c.turn) }}
}

// addAll counts the scrolls of a phext that the call is about, and adds them. Of one phext
// alone, those without a name are in order already, and are not added.
func (c *collection) addAll(ctx context.Context, rows *first[row], name string, v datadir.View) (n int, err error) {
	if err := c.turn.Take(ctx); err != nil {
		return 0, err
	}
	defer c.turn.Give()
	for found := range c.rows(rows.work, name, v) {
		if n++; c.call.Listing.Everywhere || found.name != "" {
			rows.add(found)
		}
	}
	return n, rows.work.err
}

// rows are the scrolls of a phext that the call is about, in the order of their coordinates.
func (c *collection) rows(w *work, name string, v datadir.View) iter.Seq[row] {
	return func(yield func(row) bool) {
		named := v.Names.Phext.InOrder()
		for s := range v.Phext.Phext.All() {
			if w.did(perCompare) {
				return
			}
			found := row{at: s.At, phext: name, size: len(s.Text), modified: v.Phext.ID.Mtime}
			found.name, _ = named(s.At)
			if c.call.Listing.Covers(found.at, found.name) && !yield(found) {
				return
			}
		}
	}
}

// pageOf is the page of one phext, whose rows with names addAll has added.
func (c *collection) pageOf(ctx context.Context, rows *first[row], name string, v datadir.View) (page []row, err error) {
	if err := c.turn.Take(ctx); err != nil {
		return nil, err
	}
	l, named, next := c.call.Listing, rows.sort(), 0
	skip := (l.Page - 1) * l.Limit
	put := func(r *row) (more bool) {
		if skip--; skip < 0 {
			page = append(page, *r)
		}
		return len(page) < l.Limit
	}
	for found := range c.rows(rows.work, name, v) {
		if found.name != "" {
			continue
		}
		for ; next < named.len && compareRows(named.at(next), &found) < 0; next++ {
			if !put(named.at(next)) {
				return page, rows.work.err
			}
		}
		if !put(&found) {
			return page, rows.work.err
		}
	}
	for more := true; more && next < named.len; next++ {
		more = put(named.at(next))
	}
	return page, rows.work.err
}

// search returns one page of the hits, the best ones first, and how many there are.
func (c *collection) search(ctx context.Context, d *datadir.Dir) (page []row, total int, err error) {
	phexts, err := c.phexts(ctx, d)
	if err != nil {
		return nil, 0, err
	}
	l := c.call.Listing
	s := newSearch(l.Terms)
	views := make([]datadir.View, len(phexts)) // of those with hits
	for i, name := range phexts {
		v, err := d.RecoveredView(ctx, c.call.Elsewhere(name))
		if err != nil {
			return nil, 0, err
		}
		held, hits := len(c.held), s.hits.len
		if err := c.use(v); err != nil { // what is found is part of the phext
			return nil, 0, err
		}
		if err := c.admit(ctx, int64(v.Phext.Phext.Len())*s.hitMemory(), v); err != nil {
			return nil, 0, err
		}
		if err := s.lookThrough(ctx, i, v, l); err != nil {
			return nil, 0, err
		}
		if s.hits.len == hits {
			c.releaseTo(held)
			continue
		}
		views[i] = v
	}
	if err := c.turn.Take(ctx); err != nil {
		return nil, 0, err
	}
	s.work = *c.work(ctx)
	best := s.best(l.Page * l.Limit)
	for i := (l.Page - 1) * l.Limit; i < best.len; i++ {
		h := best.at(i)
		found := row{at: h.scroll.At, phext: phexts[h.phext], text: h.scroll.Text, score: float64(h.score)}
		found.name, _ = views[h.phext].Names.Phext.Select(h.scroll.At)
		found.snippet = s.snippet(h.scroll.Text)
		page = append(page, found)
	}
	return page, s.hits.len, s.err
}

// compareRows compares as coordinates count.
func compareRows(a, b *row) int {
	if a.name == "" && b.name == "" {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.phext, b.phext))
	}
	return cmp.Or(compareNatural(a.label(), b.label()), cmp.Compare(a.phext, b.phext), a.at.Compare(b.at))
}

// compareNatural compares coordinates and names component by component. Numbers come
// before words and count as numbers, so readme.9 is before readme.10.
func compareNatural(a, b string) int {
	for a != "" && b != "" {
		var partA, partB string
		partA, a = cutPart(a)
		partB, b = cutPart(b)
		if c := comparePart(partA, partB); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func cutPart(s string) (part, rest string) {
	end := strings.IndexAny(s, "./")
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end+1:]
}

func comparePart(a, b string) int {
	numberA, numberB := isNumber(a), isNumber(b)
	switch {
	case numberA && numberB:
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	case numberA:
		return -1
	case numberB:
		return 1
	}
	return cmp.Compare(a, b)
}

func isNumber(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// perEntry is more than an entry takes in an answer beside its texts, in bytes.
const perEntry = 256

// sizeOfListing is the most that an answer takes, in bytes.
func sizeOfListing(call *rewrite.Call, page []row) int {
	l, pace := call.Listing, call.Pace
	size := perEntry + phext.QuotedLen(l.Query, pace) + phext.QuotedLen(l.Prefix.Text, pace)
	for i := range page {
		row := &page[i]
		size += perEntry + 2*phext.QuotedLen(row.label(), pace) + phext.QuotedLen(row.phext, pace) + phext.QuotedLen(row.snippet, pace) + phext.QuotedLen(row.text, pace)
	}
	return size
}

// answerListing is the answer with one page of all rows that were found. It is
// written in one piece of size bytes, since the texts in it may be large.
func answerListing(call *rewrite.Call, page []row, all, size int) string {
	o := object{call: call, Builder: phext.Builder{Pace: call.Pace}}
	o.Grow(size)
	if call.Op == rewrite.Search {
		o.begin("query", call.Listing.Query, len(page), all)
		o.list("results", page, func(row *row) {
			o.text(`"coordinate":`, row.label())
			o.text(`,"snippet":`, row.snippet)
			o.WriteString(`,"score":` + strconv.FormatFloat(row.score, 'f', 4, 64))
			o.text(`,"content":`, row.text)
		})
	} else {
		o.begin("prefix", call.Listing.Prefix.Text, len(page), all)
		o.WriteString(`,"coordinates":[`)
		for i := range page {
			o.comma(i)
			phext.WriteQuoted(&o.Builder, page[i].label())
		}
		o.WriteString("]")
		o.list("scrolls", page, func(row *row) {
			o.text(`"coordinate":`, row.label())
			o.WriteString(`,"size_bytes":` + strconv.Itoa(row.size))
			// SQ keeps no time for a scroll, so this is when the phext was written last. A key
			// for some of its scrolls is not told.
			if row.modified != 0 {
				o.text(`,"modified":`, time.Unix(0, row.modified).UTC().Format(time.RFC3339))
			}
		})
	}
	o.WriteString("}\n")
	return o.String()
}

// object is the JSON of a listing.
type object struct {
	phext.Builder
	call *rewrite.Call
}

func (o *object) text(name, text string) {
	o.WriteString(name)
	phext.WriteQuoted(&o.Builder, text)
}

func (o *object) comma(i int) {
	if i > 0 {
		o.WriteByte(',')
	}
}

func (o *object) begin(name, asked string, count, total int) {
	o.text(`{"`+name+`":`, asked)
	o.WriteString(`,"count":` + strconv.Itoa(count) + `,"total":` + strconv.Itoa(total))
}

// list writes a list of entries. Over all phexts, each has the name of its own.
func (o *object) list(name string, page []row, write func(*row)) {
	o.WriteString(`,"` + name + `":[`)
	for i := range page {
		o.comma(i)
		o.WriteByte('{')
		write(&page[i])
		if o.call.Listing.Everywhere && page[i].phext != "" {
			o.text(`,"phext":`, page[i].phext)
		}
		o.WriteByte('}')
	}
	o.WriteByte(']')
}
