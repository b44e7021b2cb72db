package datadir

import (
	"runtime"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
)

// perScroll is what deciding about a scroll counts as, in bytes of work.
const perScroll = 128

// restrict is what a caller may know of a view: the phext as if it had no other scrolls.
// Those with names are numbered anew, since their coordinates tell how many others there
// are. The lists count as memory as long as somebody has the view.
func (d *Dir) restrict(v View, call *rewrite.Call) (View, error) {
	if call.Op == rewrite.Select { // which shows one scroll alone
		if name, named := v.Names.Phext.Select(call.At); call.Name == "" && named && !call.Shows(call.At, name) {
			return d.dirs.MissingView(), nil
		}
		return v, nil
	}
	shown, named := 0, 0
	eachShown(v, call, func(_ phext.Scroll, name string) {
		shown++
		if name != "" {
			named++
		}
	})
	release, err := d.AdmitBeside(2*phext.ScrollSize*int64(shown+named), v) // there are two of each list for a moment
	if err != nil {
		return View{}, err
	}
	scrolls, names := make([]phext.Scroll, 0, shown), make([]phext.Scroll, 0, named)
	at := rewrite.FirstNamed()
	eachShown(v, call, func(s phext.Scroll, name string) {
		if name != "" {
			s.At = at
			names = append(names, phext.Scroll{At: at, Text: name})
			at, _ = at.Next() // there are no more of them than coordinates
		}
		scrolls = append(scrolls, s)
	})
	pace := call.Pace
	only := View{cache.PartOf(v.Phext, phext.OfPaced(scrolls, pace)), cache.PartOf(v.Names, phext.OfPaced(names, pace))}
	runtime.AddCleanup(only.Phext, func(release func()) { release() }, release)
	return only, nil
}

func eachShown(v View, call *rewrite.Call, show func(s phext.Scroll, name string)) {
	named := v.Names.Phext.InOrder()
	for _, s := range v.Phext.Phext.Scrolls() {
		call.Pace.Did(perScroll)
		if name, _ := named(s.At); call.Shows(s.At, name) {
			show(s, name)
		}
	}
}
