package datadir

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
)

// perScroll is what deciding about a scroll counts as, in bytes of work.
const perScroll = 128

// lookForClient is after how many scrolls it is looked whether the client has gone.
const lookForClient = 1024

// restrict is what a caller may know of a view: the phext as if it had no other scrolls. Those who ask for
// the same at a time get the same, which is made once. The error is that of AdmitBeside, or that the client
// has gone.
func (d *Dir) restrict(ctx context.Context, v View, call *rewrite.Call) (View, error) {
	if call.Op == rewrite.Select { // which shows one scroll alone
		if name, named := v.Names.Phext.Select(call.At); call.Name == "" && named && !call.Shows(call.At, name) {
			return d.dirs.MissingView(), nil
		}
		return v, nil
	}
	done, err := d.Use(v)
	if err != nil {
		return View{}, err
	}
	defer done()
	turn := fairqueue.FromContext(ctx)
	for {
		proceed := turn.Suspend()
		part, err, _ := d.dirs.parts.Do(fmt.Sprintf("%p %p %p", v.Phext, v.Names, call.Scope()), func() (any, error) {
			proceed()
			defer func() { proceed = turn.Suspend() }()
			return d.partOf(ctx, v, call)
		})
		proceed()
		if err == nil {
			return part.(View), nil
		}
		if ctx.Err() != nil || !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			return View{}, err
		} // else the client for whom it was made has gone
	}
}

// partOf makes the view of restrict. Scrolls with names are numbered anew, since their coordinates tell how
// many others there are. The lists count as memory while they are made, and then while somebody has Use of them.
func (d *Dir) partOf(ctx context.Context, v View, call *rewrite.Call) (View, error) {
	shown, named := 0, 0
	for _, name := range shownOf(ctx, v, call) {
		shown++
		if name != "" {
			named++
		}
	}
	lists := int64(shown + named)
	if named > 0 {
		lists += int64(shown) // that without names, for a moment
	}
	release, err := d.AdmitBeside(phext.ScrollSize*lists, v)
	if err != nil {
		return View{}, err
	}
	defer release()
	numbered := phext.Ordered(shown-named, func(yield func(phext.Scroll) bool) {
		for s, name := range shownOf(ctx, v, call) {
			if name == "" && !yield(s) {
				return
			}
		}
	}, call.Pace)
	scrolls := numbered
	if named > 0 {
		scrolls = numbered.WithAll(named, renumbered(ctx, v, call, func(s phext.Scroll, _ string) string { return s.Text }), call.Pace)
	}
	names := phext.Ordered(named, renumbered(ctx, v, call, func(_ phext.Scroll, name string) string { return name }), call.Pace)
	if ctx.Err() != nil {
		return View{}, ctx.Err()
	}
	return View{cache.PartOf(v.Phext, scrolls), cache.PartOf(v.Names, names).Indexed(call.Pace)}, nil
}

// renumbered are the scrolls with names that a caller may know of, with new coordinates and
// what text makes of each.
func renumbered(ctx context.Context, v View, call *rewrite.Call, text func(s phext.Scroll, name string) string) iter.Seq[phext.Scroll] {
	return func(yield func(phext.Scroll) bool) {
		at := rewrite.FirstNamed()
		for s, name := range shownOf(ctx, v, call) {
			if name == "" {
				continue
			}
			if !yield(phext.Scroll{At: at, Text: text(s, name)}) {
				return
			}
			at, _ = at.Next() // there are no more of them than coordinates
		}
	}
}

// shownOf are the scrolls that a caller may know of, and their names. They end when the client has gone.
func shownOf(ctx context.Context, v View, call *rewrite.Call) iter.Seq2[phext.Scroll, string] {
	return func(yield func(phext.Scroll, string) bool) {
		named, n := v.Names.Phext.InOrder(), 0
		for s := range v.Phext.Phext.All() {
			call.Pace.Did(perScroll)
			if n++; n%lookForClient == 0 && ctx.Err() != nil {
				return
			}
			if name, _ := named(s.At); call.Shows(s.At, name) && !yield(s, name) {
				return
			}
		}
	}
}
